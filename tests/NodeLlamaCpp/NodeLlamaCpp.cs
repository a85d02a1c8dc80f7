using System.Diagnostics;
using System.Text.Json;
using Pcrl.Runtime.Language;

namespace Pcrl.Tests;

/// <summary>
/// node-llama-cpp opens our files: another program, with its own reading of vocabulary and metadata. It is installed from npm
/// at its first use; where that is impossible the test is skipped and says why.
/// </summary>
internal static class NodeLlamaCpp
{
    private static readonly Lock InstallLock = new();

    /// <summary>
    /// Asserts that the file opens, that <paramref name="prompt"/> (special tokens spelt out) has the same tokens there as here, that
    /// they give the text back, and that the <paramref name="count"/> tokens that follow greedily are the same.
    /// </summary>
    public static void AssertAgrees(string ggufPath, string prompt, int count)
    {
        string script = Script("open-gguf.mjs");
        using var reading = JsonDocument.Parse(Run("node", [script, Path.GetFullPath(ggufPath), prompt, $"{count}"], Path.GetDirectoryName(script)!));
        int[] Integers(string name) => [.. reading.RootElement.GetProperty(name).EnumerateArray().Select(e => e.GetInt32())];

        using var model = LanguageModel.Load(ggufPath, new LanguageOptions { Threads = 1 });
        Assert.Equal(model.Config.VocabSize, reading.RootElement.GetProperty("vocabulary").GetInt32());
        int[] tokens = model.Tokenize(prompt, parseSpecial: true);
        Assert.Equal(tokens, Integers("tokens"));
        Assert.Equal(prompt, reading.RootElement.GetProperty("text").GetString());
        var sequence = new List<int>(tokens);
        while (sequence.Count < tokens.Length + count && !model.EndsText(sequence[^1]))
        {
            float[] logits = model.EvaluateTokens([.. sequence])[^model.Config.VocabSize..];
            sequence.Add(Array.IndexOf(logits, logits.Max()));
        }
        Assert.Equal(sequence[tokens.Length..], Integers("continuation"));
    }

    /// <summary>The tokens that the file's vocabulary gives to texts in which special tokens are text like any other.</summary>
    public static int[][] Tokenize(string ggufPath, IReadOnlyList<string> texts)
    {
        string script = Script("tokenize.mjs"), input = Path.GetTempFileName();
        try
        {
            File.WriteAllText(input, JsonSerializer.Serialize(texts));
            return JsonSerializer.Deserialize<int[][]>(Run("node", [script, Path.GetFullPath(ggufPath), input], Path.GetDirectoryName(script)!))!;
        }
        finally
        {
            File.Delete(input);
        }
    }

    private static string Script(string name)
    {
        string source = Path.Combine(AppContext.BaseDirectory, "node-llama-cpp"), installed = Path.Combine(AppContext.BaseDirectory, "node-llama-cpp-installed");
        lock (InstallLock)
        {
            if (!Directory.Exists(installed))
            {
                // Beside it and then renamed: an install that was cut off is never taken for a whole one.
                string work = $"{installed}.{Environment.ProcessId}";
                Directory.CreateDirectory(work);
                foreach (string file in Directory.GetFiles(source))
                    File.Copy(file, Path.Combine(work, Path.GetFileName(file)), overwrite: true);
                try
                {
                    // Optional packages are the builds for other platforms and devices, hundreds of megabytes; package.json names ours.
                    Run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--omit=optional", "--loglevel=error"], work);
                }
                catch (InvalidOperationException e)
                {
                    Directory.Delete(work, recursive: true);
                    Skip.If(true, $"NOT CHECKED: node-llama-cpp cannot be installed from npm here: {e.Message}");
                }
                Directory.Move(work, installed);
            }
        }
        File.Copy(Path.Combine(source, name), Path.Combine(installed, name), overwrite: true);
        return Path.Combine(installed, name);
    }

    private static string Run(string program, string[] arguments, string folder)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new InvalidOperationException($"{program}: {e.Message}", e);
        }
        using (process)
        {
            string errors = "";
            process.ErrorDataReceived += (_, line) => errors += line.Data + "\n";
            process.BeginErrorReadLine();
            string output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{program} failed: {errors.Trim()}");
        }
    }
}
