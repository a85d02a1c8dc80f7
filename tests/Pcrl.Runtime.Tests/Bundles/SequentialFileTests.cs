using Pcrl.Runtime.Bundles;

namespace Pcrl.Runtime.Tests.Bundles;

public sealed class SequentialFileTests
{
    [Theory]
    [InlineData("")]
    [InlineData("/dev/shm")] // memory, which is no disk to go to directly
    public void Pieces_of_any_length_become_one_file_flushed_or_gone_on_with_anywhere(string folder)
    {
        string path = Path.Combine(folder.Length > 0 ? folder : Path.GetTempPath(), Path.GetRandomFileName());
        var random = new Random(7);
        byte[] content = new byte[(21 << 20) + 13]; // more than two buffers
        random.NextBytes(content);
        try
        {
            for (int at = 0; at < content.Length;)
            {
                using var file = new SequentialFile(path);
                file.GoOnAt(at);
                int stop = at == 0 ? (9 << 20) + 4097 : content.Length;
                while (at < stop)
                {
                    int count = Math.Min(random.Next(1, 1 << 20), stop - at);
                    file.Write(content.AsSpan(at, count));
                    at += count;
                    Assert.Equal(at, file.Position);
                    if (random.Next(5) == 0)
                    {
                        file.Flush();
                        Assert.Equal(at, file.Length);
                    }
                }
                file.Flush();
                file.Write(new byte[100]); // never flushed: a killed process' last words
            }
            Assert.Equal(content, File.ReadAllBytes(path));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void A_failure_behind_the_writer_is_told_and_another_writer_is_kept_out()
    {
        string path = Path.GetTempFileName();
        try
        {
            using var file = new SequentialFile(path);
            Assert.Throws<IOException>(() => new SequentialFile(path));
        }
        finally
        {
            File.Delete(path);
        }
        using var full = new SequentialFile("/dev/full");
        Assert.ThrowsAny<IOException>(() =>
        {
            full.Write(new byte[30 << 20]);
            full.Flush();
        });
    }
}
