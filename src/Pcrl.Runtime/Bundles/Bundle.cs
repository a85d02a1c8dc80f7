using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Pcrl.Runtime.Bundles;

/// <summary>
/// A model on disk: a folder of <c>pcrl.json</c>, <c>visual.gguf</c>, <c>llm.gguf</c> and, if it knows report language, <c>phrases.txt</c>.
/// Opening it checks every byte against the
/// manifest's hashes, so that nothing unverified reaches native code (llama.cpp ends the process on a malformed GGUF).
/// </summary>
public sealed class Bundle
{
    /// <summary>File name of the manifest.</summary>
    public const string ManifestFile = "pcrl.json";

    /// <summary>File name of the vision weights: our own GGUF architecture <c>pcrl-visual</c>, BatchNorm folded.</summary>
    public const string VisualFile = "visual.gguf";

    /// <summary>File name of the language model: stock LLaMA GGUF, LoRA merged.</summary>
    public const string LanguageFile = "llm.gguf";

    /// <summary>File name of the phrases: findings of the training data, one text a line, from which the decoder drafts. Not every bundle has it.</summary>
    public const string PhrasesFile = "phrases.txt";

    private const int LargestManifest = 1 << 20;
    private const int LongestPrompt = 1 << 14;

    private Bundle(string folder, Manifest manifest)
    {
        Folder = folder;
        Manifest = manifest;
    }

    /// <summary>The folder as the user named it.</summary>
    public string Folder { get; }

    /// <summary>The parsed and checked manifest.</summary>
    public Manifest Manifest { get; }

    /// <summary>Path of the vision weights.</summary>
    public string VisualPath => Path.Combine(Folder, VisualFile);

    /// <summary>Path of the language model.</summary>
    public string LanguagePath => Path.Combine(Folder, LanguageFile);

    /// <summary>Path of the phrases, or null.</summary>
    public string? PhrasesPath => Manifest.Files.ContainsKey(PhrasesFile) ? Path.Combine(Folder, PhrasesFile) : null;

    /// <summary>Opens a bundle and verifies its files.</summary>
    /// <exception cref="InputException">Something is missing, unreadable, of another format version, or differs from its hash.</exception>
    public static Bundle Open(string folder, CancellationToken cancellation = default)
    {
        if (!Directory.Exists(folder))
            throw InputException.NoFolder(folder);
        var manifest = ReadManifest(Path.Combine(folder, ManifestFile));
        foreach (string name in (string[])[VisualFile, LanguageFile, PhrasesFile])
        {
            if (manifest.Files.GetValueOrDefault(name) is { } digest)
                Verify(Path.Combine(folder, name), digest, cancellation);
            else if (name != PhrasesFile)
                throw new InputException(Path.Combine(folder, ManifestFile), $"names no digest for {name}");
        }
        return new Bundle(folder, manifest);
    }

    /// <summary>The lines of the phrases; none where the bundle has no such file.</summary>
    /// <exception cref="InputException">The file cannot be read.</exception>
    public string[] ReadPhrases()
    {
        try
        {
            return PhrasesPath is { } path ? File.ReadAllLines(path) : [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(PhrasesPath!, e);
        }
    }

    /// <summary>Gives the bundle phrases, in place of those that it has. Whenever the process dies, what lies there is a bundle: for a moment, one without phrases.</summary>
    /// <param name="text">Findings, one a line.</param>
    /// <exception cref="InputException">A file cannot be written.</exception>
    public void ReplacePhrases(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        var others = Manifest.Files.Where(file => file.Key != PhrasesFile).ToDictionary();
        Save(Folder, Manifest with { Files = others });
        AtomicFile.Write(Path.Combine(Folder, PhrasesFile), stream => stream.Write(bytes));
        Save(Folder, Manifest with { Files = new Dictionary<string, FileDigest>(others) { [PhrasesFile] = new(bytes.Length, Convert.ToHexStringLower(SHA256.HashData(bytes))) } });
    }

    private static void Save(string folder, Manifest manifest) =>
        AtomicFile.Write(Path.Combine(folder, ManifestFile), stream => JsonSerializer.Serialize(stream, manifest, ManifestJson.ForWriting().Manifest));

    /// <summary>Writes the manifest for files that already lie in <paramref name="folder"/>, with their digests.</summary>
    public static void WriteManifest(string folder, Manifest manifest) => Save(folder, manifest with
    {
        Files = new[] { VisualFile, LanguageFile, PhrasesFile }.Where(name => File.Exists(Path.Combine(folder, name))).ToDictionary(name => name, name => Digest(Path.Combine(folder, name), default)),
    });

    private static Manifest ReadManifest(string path)
    {
        Manifest manifest;
        try
        {
            if (!File.Exists(path))
                throw new InputException(path, "is missing: the folder is not a bundle");
            if (RegularFile.Find(path) is not { } file)
                throw new InputException(path, "is empty or no ordinary file");
            if (file.Length > LargestManifest)
                throw new InputException(path, "is too large to be a manifest");
            manifest = JsonSerializer.Deserialize(File.ReadAllBytes(path), ManifestJson.Default.Manifest)
                ?? throw new InputException(path, "holds no manifest");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
        catch (JsonException e)
        {
            throw new InputException(path, $"is not a valid manifest (line {e.LineNumber + 1}, {e.Path})", e);
        }
        if (manifest.Format != Manifest.CurrentFormat)
            throw new InputException(path, $"has format {manifest.Format}; this program reads format {Manifest.CurrentFormat}");
        Check(path, manifest);
        return manifest;
    }

    /// <summary>Ranges that the rest of the program relies on; the weights' shapes are checked against them when they are read.</summary>
    private static void Check(string path, Manifest manifest)
    {
        void Require(bool holds, string what)
        {
            if (!holds)
                throw new InputException(path, what);
        }
        Require(manifest.Visual.Problem() is null, $"visual.{manifest.Visual.Problem()}");
        Require(manifest.Prompt.Head.Length + manifest.Prompt.Tail.Length <= LongestPrompt, $"prompt has more than {LongestPrompt} characters");
        Require(manifest.ContextLength is >= 64 and <= 1 << 20, $"context_length {manifest.ContextLength} is outside 64 to 1048576");
        Require(manifest.Sampling.Temperature is >= 0 and <= 100, "sampling.temperature is outside 0 to 100");
        Require(manifest.Sampling.TopP is >= 0 and <= 1, "sampling.top_p is outside 0..1");
        Require(manifest.Sampling.MaxTokens >= 1, "sampling.max_tokens must be at least 1");
    }

    private static void Verify(string path, FileDigest expected, CancellationToken cancellation)
    {
        if (!File.Exists(path))
            throw new InputException(path, "is missing from the bundle");
        var file = RegularFile.Find(path) ?? throw new InputException(path, "is empty or no ordinary file");
        if (file.Length != expected.Bytes)
            throw new InputException(path, $"has {file.Length} bytes, the manifest says {expected.Bytes}");
        if (Digest(path, cancellation).Sha256 != expected.Sha256)
            throw new InputException(path, "differs from its SHA-256 in the manifest: the file is damaged or was replaced");
    }

    private static FileDigest Digest(string path, CancellationToken cancellation)
    {
        try
        {
            using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.SequentialScan);
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            var buffer = new byte[1 << 20];
            for (int read; (read = stream.Read(buffer)) > 0;)
            {
                cancellation.ThrowIfCancellationRequested();
                hash.AppendData(buffer, 0, read);
            }
            return new FileDigest(stream.Length, Convert.ToHexStringLower(hash.GetHashAndReset()));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
    }
}
