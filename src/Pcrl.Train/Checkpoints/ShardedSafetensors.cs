using System.Text.Json;
using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>A model in several safetensors files, held together by <c>*.safetensors.index.json</c> beside them.</summary>
public sealed class ShardedSafetensors : ITensorSource
{
    private readonly Dictionary<string, SafetensorsFile> _shards;
    private readonly Dictionary<string, string> _shardOf;

    private ShardedSafetensors(string path, Dictionary<string, SafetensorsFile> shards, Dictionary<string, string> shardOf)
    {
        Path = path;
        _shards = shards;
        _shardOf = shardOf;
    }

    /// <inheritdoc/>
    public string Path { get; }

    /// <inheritdoc/>
    public IReadOnlyCollection<string> Names => _shardOf.Keys;

    /// <summary>Opens the index and every shard that it names.</summary>
    /// <exception cref="InputException">
    /// Broken index, a missing or broken shard, a shard outside the index's folder, a tensor that its shard does not hold,
    /// or one that stands in two shards.
    /// </exception>
    public static ShardedSafetensors Open(string path)
    {
        var shardOf = ReadIndex(path);
        var shards = new Dictionary<string, SafetensorsFile>();
        try
        {
            string folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!;
            foreach (var (name, shard) in shardOf)
            {
                if (!shards.TryGetValue(shard, out var file))
                    shards[shard] = file = SafetensorsFile.Open(System.IO.Path.Combine(folder, shard));
                if (!file.Tensors.ContainsKey(name))
                    throw new InputException(path, $"looks for tensor {name} in {shard}, which does not hold it");
            }
            foreach (var (shard, file) in shards)
            {
                foreach (string name in file.Names)
                {
                    if (shardOf.TryGetValue(name, out string? meant) && meant != shard)
                        throw new InputException(path, $"has tensor {name} in {meant} and again in {shard}");
                }
            }
            return new ShardedSafetensors(path, shards, shardOf);
        }
        catch
        {
            foreach (var file in shards.Values)
                file.Dispose();
            throw;
        }
    }

    private static Dictionary<string, string> ReadIndex(string path)
    {
        var shardOf = new Dictionary<string, string>();
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            foreach (var entry in json.RootElement.GetProperty("weight_map").EnumerateObject())
            {
                string shard = entry.Value.GetString() ?? "";
                if (shard.Length == 0 || shard is "." or ".." || shard.AsSpan().IndexOfAny('/', '\\', '\0') >= 0)
                    throw new InputException(path, $"names a shard that is not a file beside it ('{shard}')");
                if (!shardOf.TryAdd(entry.Name, shard))
                    throw new InputException(path, $"names tensor {entry.Name} twice");
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new InputException(path, "is not a safetensors index", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
        return shardOf;
    }

    private SafetensorsFile ShardOf(string name) => _shardOf.TryGetValue(name, out string? shard)
        ? _shards[shard]
        : throw new InputException(Path, $"has no tensor {name}");

    /// <inheritdoc/>
    public IReadOnlyList<long> Shape(string name) => ShardOf(name).Shape(name);

    /// <inheritdoc/>
    public float[] ReadFloats(string name) => ShardOf(name).ReadFloats(name);

    /// <inheritdoc/>
    public void ReadFloats(string name, long first, Span<float> values) => ShardOf(name).ReadFloats(name, first, values);

    /// <inheritdoc/>
    public long[] ReadIntegers(string name) => ShardOf(name).ReadIntegers(name);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var file in _shards.Values)
            file.Dispose();
    }
}
