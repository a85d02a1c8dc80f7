using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// The frozen trunk's features of many studies in half precision: computed once, kept in a file that is mapped into memory, read in every epoch. The file begins with a hash of
/// the trunk's weights and the slices, then has a row for every study; one that ends early is gone on with, one of another hash is made anew.
/// </summary>
internal sealed class FeatureCache : IDisposable
{
    private const int HashBytes = SHA256.HashSizeInBytes, HalfBytes = 2;

    private readonly MappedFile _file;
    private readonly int _slices, _channels, _grid;

    private FeatureCache(string path, int count, int slices, PcrlModel model)
    {
        var visual = model.Shape.Visual;
        (_slices, _channels, _grid, Count) = (slices, visual.FeatureChannels, visual.Grid, count);
        _file = MappedFile.Open(path);
    }

    /// <summary>Studies held.</summary>
    public int Count { get; }

    private int PooledBytes => _slices * _channels * HalfBytes;

    private int GridBytes => PooledBytes * _grid * _grid;

    /// <summary>Runs the trunk over all slices of all studies, as far as the file does not have them.</summary>
    /// <param name="path">The file; null: one that goes with the cache.</param>
    /// <param name="model">Its trunk; in evaluation mode afterwards.</param>
    /// <param name="studies">At least one.</param>
    /// <param name="slices">Slices of a study.</param>
    /// <param name="workers">Who computes.</param>
    /// <param name="progress">Told after every few studies.</param>
    /// <param name="cancellation">Stops between two studies; what is finished stays.</param>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public static FeatureCache Compute(
        string? path, PcrlModel model, IReadOnlyList<TrainingStudy> studies, int slices, Workers workers, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        string file = path ?? Path.GetTempFileName();
        var visual = model.Shape.Visual;
        long row = (long)slices * visual.FeatureChannels * (1 + visual.Grid * visual.Grid) * HalfBytes;
        model.eval();
        try
        {
            byte[] hash = Hash(model, studies);
            using var stream = new FileStream(file, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, 1 << 20);
            int done = Finished(stream, hash, row, studies.Count);
            stream.SetLength(HashBytes + done * row);
            stream.Position = 0;
            stream.Write(hash);
            stream.Position = stream.Length;
            var clock = Stopwatch.StartNew();
            int first = done;
            var rows = new byte[workers.Count][];
            for (int start = first; start < studies.Count; start += workers.Count)
            {
                cancellation.ThrowIfCancellationRequested();
                int count = Math.Min(studies.Count - start, workers.Count);
                workers.Run(worker =>
                {
                    if (worker < count)
                        rows[worker] = Row(model, studies, start + worker, slices);
                });
                for (int i = 0; i < count; i++)
                    stream.Write(rows[i]);
                progress.Report(new StageProgress("features", start + count, studies.Count, "studies", clock.Elapsed, null) { First = first });
            }
            stream.Flush(flushToDisk: path is not null);
            return new FeatureCache(file, studies.Count, slices, model);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(file, $"cannot be written ({e.Message})", e);
        }
        finally
        {
            if (path is null)
                File.Delete(file); // what is mapped stays until it is let go
        }
    }

    /// <summary>Features of whole studies, slices of all in a row: [B·24, …].</summary>
    public SliceFeatures Take(IEnumerable<int> studies) => Take([.. studies.SelectMany(study => Enumerable.Range(0, _slices).Select(slice => (study, slice)))]);

    /// <summary>Features of single slices: [N, …].</summary>
    public SliceFeatures Take((int Study, int Slice)[] slices)
    {
        using var scope = NewDisposeScope();
        var pooled = empty([slices.Length, _channels], ScalarType.Float16, CPU);
        var grid = empty([slices.Length, _channels, _grid, _grid], ScalarType.Float16, CPU);
        int point = _channels * HalfBytes, map = point * _grid * _grid;
        for (int i = 0; i < slices.Length; i++)
        {
            var (study, slice) = slices[i];
            long at = HashBytes + study * (long)(PooledBytes + GridBytes);
            _file.Bytes(at + slice * point, point).CopyTo(pooled.bytes[(i * point)..]);
            _file.Bytes(at + PooledBytes + slice * map, map).CopyTo(grid.bytes[(i * map)..]);
        }
        return new SliceFeatures(
            pooled.to(float32).to(TorchDevice.Current).MoveToOuterDisposeScope(), grid.to(float32).to(TorchDevice.Current).MoveToOuterDisposeScope());
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private static byte[] Row(PcrlModel model, IReadOnlyList<TrainingStudy> studies, int study, int slices)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var features = model.Features(TrunkLearner.Slices(studies, [.. Enumerable.Range(0, slices).Select(k => (study, k))], model.Shape.Visual.ImageSize));
        byte[] Halves(Tensor values) => values.to(ScalarType.Float16).cpu().contiguous().bytes.ToArray();
        return [.. Halves(features.Pooled), .. Halves(features.Grid)];
    }

    /// <summary>Whole rows that a file of the same hash has.</summary>
    private static int Finished(FileStream stream, byte[] hash, long row, int count)
    {
        Span<byte> own = stackalloc byte[HashBytes];
        return stream.ReadAtLeast(own, HashBytes, throwOnEndOfStream: false) == HashBytes && own.SequenceEqual(hash)
            ? (int)Math.Min(count, (stream.Length - HashBytes) / row) : 0;
    }

    private static byte[] Hash(PcrlModel model, IReadOnlyList<TrainingStudy> studies)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (_, value) in Weights.Of(model.Trunk))
            hash.AppendData(MemoryMarshal.AsBytes(Weights.Floats(value).AsSpan()));
        foreach (var study in studies)
            hash.AppendData(study.Slices);
        return hash.GetHashAndReset();
    }
}
