using Pcrl.Train.Checkpoints;
using Pcrl.Train.Fitting;
using Pcrl.Train.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Fitting;

/// <summary>What reaches the optimizer. The loss is a number times the one weight, so the number is the gradient; after a step AdamW's first moment is a tenth of it.</summary>
[Collection("torch")]
public class FitLoopTests
{
    private static readonly FitConfig Two = new() { Steps = 2, Batch = 4, ClipNorm = 100, WarmUp = 0, LearningRate = 0.1 };

    /// <summary>Gradients of the first step as the optimizer saw them, and the weights of all replicas after the last.</summary>
    private static (float Gradient, double Loss, float[] Weights) Fit(FitConfig fit, int workers, Func<int, long, float?> slope, ScalarType type = ScalarType.Float32)
    {
        using var threads = new Workers(workers);
        var replicas = Enumerable.Range(0, workers).Select(_ => new Parameter[] { nn.Parameter(ones(1).to(type)) }).ToArray();
        using var loop = new FitLoop("test", fit, threads, replicas, (worker, number) =>
            slope(worker, number) is { } s ? (replicas[worker][0].to(float32) * s).sum() : zeros(1, requires_grad: true).sum());
        float gradient = 0;
        double loss = 0;
        loop.Run(() =>
        {
            if (loop.Step == 1)
                (gradient, loss) = (Weights.Floats(loop.Moments[0].exp_avg)[0] * 10, loop.Loss);
            return true;
        }, new Progress<StageProgress>(), default);
        return (gradient, loss, [.. replicas.Select(r => Weights.Floats(r[0])[0])]);
    }

    [Fact]
    public void Batches_of_a_step_are_averaged_and_numbered_through()
    {
        var seen = new List<long>();
        var (gradient, loss, _) = Fit(Two with { Accumulate = 3 }, 1, (_, number) =>
        {
            seen.Add(number);
            return number < 3 ? 1 + number : 0;
        });
        Assert.Equal(2, gradient, 1e-5); // of 1, 2 and 3
        Assert.Equal(2, loss, 1e-5);
        Assert.Equal([0, 1, 2, 3, 4, 5], seen);
    }

    [Fact]
    public void Workers_are_averaged_and_one_that_has_nothing_counts_as_zero()
    {
        var (gradient, _, weights) = Fit(Two, 2, (worker, _) => 1 + 2 * worker);
        Assert.Equal(2, gradient, 1e-5);
        Assert.Equal(weights[0], weights[1]);
        Assert.NotEqual(1, weights[0]);
        (gradient, _, weights) = Fit(Two, 2, (worker, _) => worker == 0 ? null : 3);
        Assert.Equal(1.5, gradient, 1e-5);
        Assert.Equal(weights[0], weights[1]);
    }

    [Fact]
    public void The_whole_gradient_is_no_longer_than_allowed() => Assert.Equal(0.5, Fit(Two with { ClipNorm = 0.5 }, 1, (_, _) => 7).Gradient, 1e-4);

    [Fact]
    public void Weights_in_bfloat16_follow_a_float32_copy()
    {
        // Steps of 1e-4 are lost in a bfloat16 near 1, whose neighbours are 0.004 away; a hundred of them are not.
        var (_, _, weights) = Fit(Two with { Steps = 100, LearningRate = 1e-4 }, 1, (_, _) => 1, ScalarType.BFloat16);
        Assert.InRange(weights[0], 0.990f, 0.998f);
    }

    [Fact]
    public void Weight_decay_shrinks_what_has_no_slope()
    {
        float Weight(double decay) => Fit(Two with { WeightDecay = decay }, 1, (_, _) => 0).Weights[0];
        Assert.Equal(1, Weight(0));
        Assert.InRange(Weight(0.5), 0.9f, 0.999f);
    }
}
