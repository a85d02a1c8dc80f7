using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Tests.Language;

public sealed class CudaCodeTests : IDisposable
{
    private const bool Text = true, Machine = false;

    /// <summary>What the pinned package has.</summary>
    private static readonly CudaPiece[] Package = [new(Text, 91, 75), new(Text, 91, 80), new(Machine, 81, 86), new(Machine, 81, 89), new(Text, 91, 90), new(Machine, 81, 120)];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(13010, 90, null)]
    [InlineData(13020, 75, null)]
    [InlineData(13000, 86, null)]
    [InlineData(13000, 89, null)]
    [InlineData(13000, 120, null)]
    [InlineData(13000, 90, "its code for compute capability 9.0 is PTX 9.1, which a driver of CUDA 13.0 cannot compile; build with -p:LlamaCudaCard=90")]
    [InlineData(13000, 80, "its code for compute capability 8.0 is PTX 9.1, which a driver of CUDA 13.0 cannot compile; build with -p:LlamaCudaCard=80")]
    [InlineData(13000, 100, "its code for compute capability 10.0 is PTX 9.1, which a driver of CUDA 13.0 cannot compile; build with -p:LlamaCudaCard=90")]
    [InlineData(13010, 70, "it has no code for compute capability 7.0")]
    public void A_driver_is_asked_for_no_more_than_it_can(int driver, int capability, string? problem) => Assert.Equal(problem, CudaCode.Problem(Package, driver, capability));

    [Fact]
    public void Code_that_was_labelled_for_an_older_driver_runs() => Assert.Null(CudaCode.Problem([new(Text, 90, 90)], 13000, 90));

    [Fact]
    public void The_pieces_of_a_library_are_read()
    {
        string path = Save("library.so", [.. new byte[77], .. Binary(Package.Select(piece => (piece, new byte[24])))]);
        Assert.Equal(Package, CudaCode.Read(path));
    }

    [Fact]
    public void A_library_that_is_cut_short_or_damaged_is_read_as_far_as_it_goes()
    {
        byte[] whole = Binary(Package.Select(piece => (piece, new byte[24])));
        for (int length = 0; length < whole.Length; length++)
            Assert.True(CudaCode.Read(Save("cut.so", whole[..length])).Count <= Package.Length);
        var random = new Random(1);
        for (int round = 0; round < 500; round++)
        {
            byte[] damaged = [.. whole];
            for (int i = 0; i < 4; i++)
                damaged[random.Next(8, damaged.Length)] = (byte)random.Next(256);
            CudaCode.Read(Save("damaged.so", damaged));
        }
        Assert.Empty(CudaCode.Read(Save("other.so", Encoding.ASCII.GetBytes("no code at all"))));
    }

    [SkippableFact]
    public void The_build_leaves_the_code_of_one_kind_of_card_and_labels_it()
    {
        byte[] Ptx(int capability) => Encoding.ASCII.GetBytes($"//\n.version 9.1\n.target sm_{capability}\n" + string.Concat(Enumerable.Range(0, 200).Select(i => $"mov.u32 %r{i * i % 83}, {i};\n")));
        byte[] Packed(byte[] content)
        {
            string plain = Save("plain", content);
            Skip.If(Run("zstd", "-q", "-f", "-19", plain, "-o", plain + ".zst").Code != 0, "the program zstd is not installed");
            return File.ReadAllBytes(plain + ".zst");
        }
        byte[] before = [1, 2, 3], after = [4, 5, 6];
        byte[] binary = Binary(Package.Select(piece => (piece, Packed(piece.IsText ? Ptx(piece.Capability) : new byte[3000]))));
        string path = Save("package.so", [.. before, .. binary, .. after]), target = _folder.File("labelled.so");
        var (code, said) = Run("node", Path.Combine(Root(), "build/cuda-code-for.mjs"), path, "90", "9.0", target);
        Assert.True(code == 0, said);
        Assert.Equal([new CudaPiece(Text, 90, 90)], CudaCode.Read(target));
        byte[] labelled = File.ReadAllBytes(target);
        Assert.Equal(before.Length + binary.Length + after.Length, labelled.Length);
        Assert.Equal(after, labelled[^after.Length..]);
        int entry = before.Length + 16, payload = entry + 64;
        string packed = Save("result.zst", labelled.AsSpan(payload, BinaryPrimitives.ReadInt32LittleEndian(labelled.AsSpan(entry + 16))).ToArray());
        Run("zstd", "-q", "-d", "-f", packed, "-o", _folder.File("result"));
        Assert.Equal(Encoding.ASCII.GetString(Ptx(90)).Replace(".version 9.1", ".version 9.0", StringComparison.Ordinal), File.ReadAllText(_folder.File("result")));

        var (none, why) = Run("node", Path.Combine(Root(), "build/cuda-code-for.mjs"), path, "70", "9.0", _folder.File("none.so"));
        Assert.Equal(1, none);
        Assert.Contains("has no PTX for 70", why);
        Assert.False(File.Exists(_folder.File("none.so")));
    }

    private string Save(string name, byte[] bytes)
    {
        string path = _folder.File(name);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    /// <summary>A fat binary, as far as it matters here: entries with headers of 64 bytes.</summary>
    private static byte[] Binary(IEnumerable<(CudaPiece Piece, byte[] Payload)> pieces)
    {
        var entries = new List<byte>();
        foreach (var (piece, payload) in pieces)
        {
            byte[] header = new byte[64];
            int padded = (payload.Length + 7) / 8 * 8;
            BinaryPrimitives.WriteUInt16LittleEndian(header, (ushort)(piece.IsText ? 1 : 2));
            BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(4), header.Length);
            BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(8), padded);
            BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(16), payload.Length);
            BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(24), (ushort)(piece.Isa % 10));
            BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(26), (ushort)(piece.Isa / 10));
            BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(28), piece.Capability);
            BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(40), 0x8011); // packed by zstd
            entries.AddRange(header);
            entries.AddRange(payload);
            entries.AddRange(new byte[padded - payload.Length]);
        }
        byte[] start = new byte[16];
        (start[0], start[1], start[2], start[3], start[4], start[6]) = (0x50, 0xed, 0x55, 0xba, 1, 16);
        BinaryPrimitives.WriteInt64LittleEndian(start.AsSpan(8), entries.Count);
        return [.. start, .. entries];
    }

    private static (int Code, string Said) Run(string program, params string[] arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true })!;
            string said = process.StandardError.ReadToEnd();
            process.WaitForExit();
            return (process.ExitCode, said);
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return (-1, e.Message);
        }
    }

    private static string Root()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "Pcrl.sln")))
            folder = Path.GetDirectoryName(folder)!;
        return folder;
    }
}
