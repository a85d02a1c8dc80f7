using System.Diagnostics;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Runtime.Tests.Bundles;

public sealed class GgufWriterResumableTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private static string[] Files(string folder) => [.. Directory.GetFiles(folder).Select(Path.GetFileName).Order()!];

    /// <summary>Ten tensors; each tells when it is fetched.</summary>
    private static GgufWriter Writer(Action<int> fetched, int tensors = 10)
    {
        var writer = new GgufWriter();
        writer.Add("general.architecture", "test");
        for (int i = 0; i < tensors; i++)
        {
            int index = i;
            writer.AddTensor($"tensor.{i}", GgufType.F32, [3, 5], () =>
            {
                fetched(index);
                return [.. Enumerable.Range(0, 15).Select(v => index + v / 100f)];
            });
        }
        return writer;
    }

    /// <summary>What a killed process leaves: the files as they lay while tensor 7 was being written.</summary>
    private string KilledAtSeven(string inputs)
    {
        string path = _folder.File("killed/llm.gguf"), scene = _folder.File("scene");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        Directory.CreateDirectory(scene);
        var writer = Writer(i =>
        {
            if (i != 7)
                return;
            // Another program: .NET itself would respect the writer's lock.
            using var copy = Process.Start("cp", [.. Directory.GetFiles(Path.GetDirectoryName(path)!), scene]);
            copy.WaitForExit();
        });
        writer.SaveResumably(path, inputs, _ => { }, betweenCheckpoints: TimeSpan.Zero);
        Assert.Equal(["llm.gguf.partial", "llm.gguf.partial.progress"], Files(scene));
        return Path.Combine(scene, "llm.gguf");
    }

    private static List<int> Resume(string path, string? inputs, int tensors = 10)
    {
        var fetched = new List<int>();
        Writer(fetched.Add, tensors).SaveResumably(path, inputs, _ => { }, betweenCheckpoints: TimeSpan.Zero);
        Assert.Equal(["llm.gguf"], Files(Path.GetDirectoryName(path)!));
        return fetched;
    }

    [Fact]
    public void A_killed_writer_goes_on_behind_what_is_on_the_disk()
    {
        string path = KilledAtSeven("inputs");
        Assert.Equal([7, 8, 9], Resume(path, "inputs"));
        Assert.Equal(File.ReadAllBytes(_folder.File("killed/llm.gguf")), File.ReadAllBytes(path));
    }

    [Theory]
    [InlineData("other inputs", 10, 0)]
    [InlineData(null, 10, 0)]
    [InlineData("inputs", 9, 0)]
    public void A_partial_file_of_something_else_is_begun_anew(string? inputs, int tensors, int first) =>
        Assert.Equal(Enumerable.Range(first, tensors), Resume(KilledAtSeven("inputs"), inputs, tensors));

    [Fact]
    public void Damaged_remains_are_begun_anew()
    {
        string path = KilledAtSeven("inputs");
        File.WriteAllText(path + ".partial.progress", File.ReadAllText(path + ".partial.progress").Trim()); // torn
        Assert.Equal(10, Resume(path, "inputs").Count);

        path = KilledAtSevenAgain();
        using (var stream = File.OpenWrite(path + ".partial"))
            stream.SetLength(stream.Length / 2); // shorter than it was said to be
        Assert.Equal(10, Resume(path, "inputs").Count);

        string KilledAtSevenAgain()
        {
            Directory.Delete(_folder.File("scene"), recursive: true);
            Directory.Delete(_folder.File("killed"), recursive: true);
            return KilledAtSeven("inputs");
        }
    }

    [Fact]
    public void A_failure_leaves_nothing_and_the_old_file_stays()
    {
        string path = _folder.File("fails/llm.gguf");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, "old");
        var broken = Writer(i => throw (i == 3 ? new IOException("no room") : new InvalidOperationException($"{i}")));
        Assert.Throws<InvalidOperationException>(() => broken.SaveResumably(path, "inputs", _ => { }));
        Assert.Contains("no room", Assert.Throws<InputException>(() => Writer(i =>
        {
            if (i == 3)
                throw new IOException("no room");
        }).SaveResumably(path, "inputs", _ => { })).Message);
        Assert.Throws<InputException>(() => Writer(_ => { }).SaveResumably(path, "inputs", _ => throw new InputException("check", "refuses")));
        Assert.Throws<OperationCanceledException>(() => Writer(_ => { }).SaveResumably(path, "inputs", _ => { }, cancellation: new CancellationToken(true)));
        Assert.Equal(["llm.gguf"], Files(Path.GetDirectoryName(path)!));
        Assert.Equal("old", File.ReadAllText(path));
    }

    [Fact]
    public void Too_little_room_is_told_before_the_first_byte()
    {
        string path = _folder.File("llm.gguf");
        var writer = new GgufWriter();
        writer.AddTensor("huge", GgufType.F32, [1L << 40, 1 << 10], (Stream _) => throw new InvalidOperationException("was begun"));
        Assert.Contains("GB are needed, the disk has", Assert.Throws<InputException>(() => writer.SaveResumably(path, "inputs", _ => { })).Message);
        Assert.Empty(Directory.GetFiles(Path.GetDirectoryName(path)!));
    }
}
