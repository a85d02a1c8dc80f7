using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Train.Fitting;

/// <summary>
/// Remembers finished stages of a run. A stage's result counts as finished once <c>stages/NAME.json</c> names the key it was made for; the key
/// covers the stage's own settings and the keys of all stages before it.
/// </summary>
/// <param name="folder">The run.</param>
/// <param name="begin">Called before a stage runs: sets the seed, so that a stage comes out the same whether or not those before it ran just now.</param>
internal sealed class StageStore(RunFolder folder, Action begin)
{
    /// <summary>To be raised when the code of a stage changes what it makes.</summary>
    private const int Recipe = 2;

    private static readonly JsonSerializerOptions Settings = new() { IncludeFields = true }; // tuples have fields

    private readonly JsonObject _records = [];
    private string _chain = $"recipe {Recipe}";

    /// <summary>Key of the stage at hand.</summary>
    public string Key => _chain;

    /// <summary>Seconds and figures of every stage so far.</summary>
    public JsonObject Records => _records;

    /// <summary>Runs a stage, or takes its finished result.</summary>
    /// <param name="name">Name of the stage.</param>
    /// <param name="settings">Everything of the configuration that the result depends on.</param>
    /// <param name="file">File below <c>stages/</c> that holds the result.</param>
    /// <param name="make">Makes the result and writes the file; returns figures worth keeping.</param>
    /// <param name="reuse">Called instead where the file is there already.</param>
    public void Run(string name, object settings, string file, Func<string, JsonObject> make, Action<string> reuse)
    {
        _chain = Hash($"{_chain}\n{name}\n{JsonSerializer.Serialize(settings, Settings)}");
        string path = folder.Stage(file), recordPath = folder.Stage(name + ".json");
        if (ReadRecord(recordPath) is { } done && (string?)done["key"] == _chain && File.Exists(path))
        {
            reuse(path);
            _records[name] = done;
            return;
        }
        File.Delete(recordPath); // from here on the old result no longer counts
        begin();
        var clock = Stopwatch.StartNew();
        var record = make(path);
        record.Insert(0, "key", _chain);
        record.Insert(1, "seconds", Math.Round(clock.Elapsed.TotalSeconds, 1));
        AtomicFile.WriteText(recordPath, record.ToJsonString());
        _records[name] = record;
    }

    private static JsonObject? ReadRecord(string path)
    {
        try
        {
            return File.Exists(path) ? JsonNode.Parse(File.ReadAllBytes(path)) as JsonObject : null;
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return null; // as good as none: the stage runs again
        }
    }

    private static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
}
