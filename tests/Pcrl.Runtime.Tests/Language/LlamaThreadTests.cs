using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Tests.Language;

public sealed class LlamaThreadTests
{
    [Fact]
    public void What_is_called_runs_on_a_fresh_thread_and_is_waited_for()
    {
        int[] threads = [.. Enumerable.Range(0, 3).Select(_ => LlamaThread.Run(() => Environment.CurrentManagedThreadId))];
        Assert.DoesNotContain(Environment.CurrentManagedThreadId, threads);
    }

    [Fact]
    public void What_it_throws_is_thrown_here() =>
        Assert.Equal("file: message", Assert.Throws<InputException>(() => LlamaThread.Run(() => throw new InputException("file", "message"))).Message);
}
