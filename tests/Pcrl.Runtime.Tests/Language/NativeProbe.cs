using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

/// <summary>Loads models and writes a little with each, in a process of its own: <c>dotnet Pcrl.Runtime.Tests.dll FILE…</c>.</summary>
internal static class NativeProbe
{
    private static int Main(string[] paths)
    {
        foreach (string path in paths)
        {
            Console.WriteLine($"trying {path}");
            try
            {
                using var model = LanguageModel.Load(path, new LanguageOptions { Threads = 1, ContextLength = 64 });
                var options = new SamplingOptions { MaxTokens = 3 };
                using var decoder = new BatchDecoder(model, new PromptTemplate("<|begin_of_text|>脑室", "a1 \n"), new DecodingOptions());
                foreach (var _ in decoder.GenerateAsync(new float[model.Width], options).ToBlockingEnumerable())
                {
                }
                Console.WriteLine("done");
            }
            catch (InputException e)
            {
                Console.WriteLine($"done: {e.Message}");
            }
        }
        return 0;
    }
}
