using Pcrl.Tests;

namespace Pcrl.Runtime.Tests.Language;

public sealed class NodeLlamaCppTests
{
    [SkippableFact]
    public void Another_program_reads_our_file_as_we_do()
    {
        using var folder = new TemporaryFolder();
        string path = new TinyLlm().Save(folder.File("llm.gguf"));
        NodeLlamaCpp.AssertAgrees(path, TinyLlm.Bos + TinyLlm.Image + "脑室未见出血 and more", count: 8);
    }
}
