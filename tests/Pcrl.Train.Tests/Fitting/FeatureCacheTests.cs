using Pcrl.Runtime;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Fitting;

[Collection("torch")]
public sealed class FeatureCacheTests : IDisposable
{
    private const int Slices = 24, Studies = 5;

    private static readonly RunConfig Config = TrainingPipelineTests.Tiny;

    private readonly string _path = Path.Combine(Directory.CreateTempSubdirectory("pcrl-features-").FullName, "features");
    private readonly List<TrainingStudy> _studies;
    private readonly PcrlModel _model;

    public FeatureCacheTests()
    {
        TorchDevice.Configure(1, 3);
        _model = new PcrlModel(Config.Shape(300));
        _studies = [.. Enumerable.Range(0, Studies).Select(i => TrainingStudy.FromPhantom((ulong)i, new PhantomOptions { ImageSize = 64 }, Config.Visual.ImageSize, 0))];
    }

    public void Dispose()
    {
        _model.Dispose();
        Directory.Delete(Path.GetDirectoryName(_path)!, recursive: true);
    }

    private (FeatureCache Cache, int Computed) Compute(Action<StageProgress>? told = null, CancellationToken cancellation = default)
    {
        using var workers = new Workers(2);
        workers.Seed(1);
        int computed = 0;
        var cache = FeatureCache.Compute(_path, _model, _studies, Slices, workers, new Told(p =>
        {
            computed = p.Done - p.First;
            told?.Invoke(p);
        }), cancellation);
        return (cache, computed);
    }

    [Fact]
    public void Rows_are_the_trunks_features_in_any_order()
    {
        using var scope = NewDisposeScope();
        using var cache = Compute().Cache;
        using var nothing = no_grad();
        var taken = cache.Take([3, 0]);
        var expected = new[] { 3, 0 }.Select(s => _model.Features(TrunkLearner.Slices(_studies, [.. Enumerable.Range(0, Slices).Select(k => (s, k))], Config.Visual.ImageSize))).ToList();
        Assert.Equal(0, (taken.Pooled - cat([.. expected.Select(e => e.Pooled)])).abs().max().item<float>(), 2e-3f);
        Assert.Equal(0, (taken.Grid - cat([.. expected.Select(e => e.Grid)])).abs().max().item<float>(), 2e-3f);

        var slices = cache.Take([(0, 2), (3, 1)]);
        Assert.Equal(0, (slices.Pooled - stack([taken.Pooled[Slices + 2], taken.Pooled[1]])).abs().max().item<float>());
        Assert.Equal(0, (slices.Grid - stack([taken.Grid[Slices + 2], taken.Grid[1]])).abs().max().item<float>());
    }

    [Fact]
    public void A_file_is_used_again_gone_on_with_or_made_anew()
    {
        Compute().Cache.Dispose();
        byte[] whole = File.ReadAllBytes(_path);
        var (cache, computed) = Compute();
        cache.Dispose();
        Assert.Equal(0, computed);

        int row = (whole.Length - 32) / Studies;
        File.WriteAllBytes(_path, whole[..(32 + 2 * row + 7)]); // killed in the third row
        (cache, computed) = Compute();
        cache.Dispose();
        Assert.Equal(3, computed);
        Assert.Equal(whole, File.ReadAllBytes(_path));

        using var source = new CancellationTokenSource();
        File.WriteAllBytes(_path, "something else"u8.ToArray());
        Assert.ThrowsAny<OperationCanceledException>(() => Compute(_ => source.Cancel(), source.Token));
        (cache, computed) = Compute();
        cache.Dispose();
        Assert.Equal(3, computed); // two workers had finished a study each
        Assert.Equal(whole, File.ReadAllBytes(_path));

        using (no_grad())
            _model.Trunk.parameters().First().add_(0.1f);
        (cache, computed) = Compute();
        cache.Dispose();
        Assert.Equal(Studies, computed);
        Assert.NotEqual(whole, File.ReadAllBytes(_path));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_file_of_its_own_is_gone_even_when_it_was_cancelled(bool cancels)
    {
        const string name = "TMPDIR";
        string? before = Environment.GetEnvironmentVariable(name);
        string folder = Path.GetDirectoryName(_path)!;
        Environment.SetEnvironmentVariable(name, folder);
        try
        {
            using var workers = new Workers(1);
            using var source = new CancellationTokenSource();
            FeatureCache Compute() => FeatureCache.Compute(null, _model, _studies, Slices, workers, new Told(_ => { if (cancels) source.Cancel(); }), source.Token);
            if (cancels)
            {
                Assert.ThrowsAny<OperationCanceledException>(Compute);
            }
            else
            {
                using var scope = NewDisposeScope();
                using var cache = Compute();
                Assert.Equal(Slices, cache.Take([Studies - 1]).Pooled.shape[0]);
            }
            Assert.Empty(Directory.GetFileSystemEntries(folder));
        }
        finally
        {
            Environment.SetEnvironmentVariable(name, before);
        }
    }

    [Fact]
    public void A_folder_in_its_place_is_refused_by_name()
    {
        Directory.CreateDirectory(_path);
        Assert.Contains(_path, Assert.Throws<InputException>(() => Compute()).Message);
    }

    private sealed class Told(Action<StageProgress> tell) : IProgress<StageProgress>
    {
        public void Report(StageProgress value) => tell(value);
    }
}
