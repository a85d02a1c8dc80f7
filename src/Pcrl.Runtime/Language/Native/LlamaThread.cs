using System.Runtime.ExceptionServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary>
/// Calls of llama.cpp that make or free something on a card. Its CUDA backend takes whatever CUDA context the calling thread has, and ILGPU leaves its own on every thread that
/// computed pictures: what was made in that one, the decoder's thread, which has none, could not use, and the process would end. So they run on a thread of their own.
/// </summary>
internal static class LlamaThread
{
    /// <summary>Calls <paramref name="action"/> on a fresh thread and waits for it.</summary>
    public static T Run<T>(Func<T> action)
    {
        var (result, failure) = (default(T)!, (Exception?)null);
        var thread = new Thread(() =>
        {
            try
            {
                result = action();
            }
            catch (Exception e)
            {
                failure = e;
            }
        }) { Name = "llama.cpp" };
        thread.Start();
        thread.Join();
        if (failure is not null)
            ExceptionDispatchInfo.Throw(failure);
        return result;
    }

    /// <inheritdoc cref="Run{T}"/>
    public static void Run(Action action) => Run(() =>
    {
        action();
        return 0;
    });
}
