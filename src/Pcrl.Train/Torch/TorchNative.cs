using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using System.Text;

namespace Pcrl.Train.Torch;

/// <summary>
/// Makes TorchSharp's native shim load on systems whose libstdc++ is older than 13.2 (Debian 12, Ubuntu 22.04).
/// <para>
/// <c>libLibTorchSharp.so</c> 0.107 names the symbol version GLIBCXX_3.4.32 among its needs, for one symbol that none of its relocations
/// uses, so the dynamic linker of an older system refuses a library that would work. Where the ordinary way to load it fails, a private
/// copy is made in which that one need is marked weak (<c>VER_FLG_WEAK</c>: the linker no longer insists), and the copy is loaded.
/// Newer systems, and other operating systems, never come here.
/// </para>
/// </summary>
internal static partial class TorchNative
{
    private const string Shim = "libLibTorchSharp.so";
    private const string MissingVersion = "GLIBCXX_3.4.32";

    /// <summary>What the shim needs, in the order in which it can be loaded; found afterwards by their names.</summary>
    private static readonly string[] Prerequisites = ["libgomp*.so.1", "libc10.so", "libtorch_cpu.so", "libtorch.so"];

    private static readonly Lock Gate = new();
    private static nint _shim;

    /// <summary>
    /// Runs before anything else of this assembly: libtorch reads OMP_WAIT_POLICY while it loads, and the handler must stand
    /// before TorchSharp asks for its shim.
    /// </summary>
#pragma warning disable CA2255 // a library may not surprise its callers; here there is no later moment that is early enough
    [ModuleInitializer]
    internal static void Initialise()
#pragma warning restore CA2255
    {
        if (!OperatingSystem.IsLinux())
            return;
        // Threads that spin while they wait starve each other on shared cores. The user's own setting wins. .NET keeps a copy of the
        // environment that native code does not see, hence the call to the C library.
        SetEnvironment("OMP_WAIT_POLICY", "PASSIVE", overwrite: 0);
        AssemblyLoadContext.Default.ResolvingUnmanagedDll += (_, name) =>
            name is "LibTorchSharp" or Shim ? LoadWithWeakVersion() : 0;
    }

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetEnvironment(string name, string value, int overwrite);

    private static nint LoadWithWeakVersion()
    {
        lock (Gate)
        {
            if (_shim != 0 || FindFolder() is not { } folder)
                return _shim;
            byte[] image = File.ReadAllBytes(Path.Combine(folder, Shim));
            if (!MarkVersionWeak(image, MissingVersion))
                return 0; // another version of the shim: let the ordinary error speak
            foreach (string pattern in Prerequisites)
            {
                foreach (string library in Directory.EnumerateFiles(folder, pattern))
                    NativeLibrary.Load(library);
            }
            // A fresh folder that only this user can enter, so that nobody else can put a library in its place.
            var copyFolder = Directory.CreateTempSubdirectory("pcrl-torch-");
            try
            {
                string copy = Path.Combine(copyFolder.FullName, Shim);
                File.WriteAllBytes(copy, image);
                return _shim = NativeLibrary.Load(copy);
            }
            finally
            {
                copyFolder.Delete(recursive: true); // the mapping outlives the name
            }
        }
    }

    /// <summary>The first of the runtime's native search folders that holds the shim.</summary>
    private static string? FindFolder()
    {
        string search = AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string ?? "";
        return search.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Append(AppContext.BaseDirectory)
            .FirstOrDefault(folder => File.Exists(Path.Combine(folder, Shim)));
    }

    /// <summary>Sets VER_FLG_WEAK on every need of <paramref name="version"/> in a 64-bit little-endian ELF image.</summary>
    /// <returns>Whether there was one.</returns>
    private static bool MarkVersionWeak(byte[] image, string version)
    {
        const int programHeaderBytes = 56, loadable = 1, dynamic = 2;
        const long endOfTable = 0, stringTable = 5, needs = 0x6ffffffe, needCount = 0x6fffffff;
        const ushort weak = 2;
        var bytes = image.AsSpan();
        int headers = (int)Int64(bytes, 32), headerCount = Int16(bytes, 56);
        var segments = new List<(long Address, long Offset, long Size)>();
        long dynamicOffset = -1;
        for (int i = 0; i < headerCount; i++)
        {
            var header = bytes.Slice(headers + i * programHeaderBytes, programHeaderBytes);
            switch (Int32(header, 0))
            {
                case loadable:
                    segments.Add((Int64(header, 16), Int64(header, 8), Int64(header, 32)));
                    break;
                case dynamic:
                    dynamicOffset = Int64(header, 8);
                    break;
            }
        }
        var entries = new Dictionary<long, long>();
        for (int at = (int)dynamicOffset; Int64(bytes, at) != endOfTable; at += 16)
            entries[Int64(bytes, at)] = Int64(bytes, at + 8);

        int FileOffset(long address)
        {
            var segment = segments.First(s => address >= s.Address && address < s.Address + s.Size);
            return (int)(address - segment.Address + segment.Offset);
        }

        bool found = false;
        int names = FileOffset(entries[stringTable]);
        int need = FileOffset(entries[needs]);
        for (long n = 0; n < entries[needCount]; n++)
        {
            int item = need + Int32(bytes, need + 8);
            for (int i = 0; i < Int16(bytes, need + 2); i++)
            {
                var name = bytes[(names + Int32(bytes, item + 8))..];
                if (name[..name.IndexOf((byte)0)].SequenceEqual(Encoding.ASCII.GetBytes(version)))
                {
                    BinaryPrimitives.WriteUInt16LittleEndian(bytes[(item + 4)..], (ushort)(Int16(bytes, item + 4) | weak));
                    found = true;
                }
                item += Int32(bytes, item + 12);
            }
            need += Int32(bytes, need + 12);
        }
        return found;
    }

    private static ushort Int16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    private static int Int32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadInt32LittleEndian(bytes[at..]);

    private static long Int64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadInt64LittleEndian(bytes[at..]);
}
