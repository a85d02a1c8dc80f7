using System.Diagnostics;
using Pcrl.Train.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// The one optimisation loop: AdamW, warm-up and cosine, clipped gradients, a dispose scope per step. Each worker has a replica of what is trained and
/// takes its share of the batch; the gradients are averaged into the first replica, whose values the others then take over.
/// </summary>
internal static class FitLoop
{
    /// <summary>Takes <see cref="FitConfig.Steps"/> steps.</summary>
    /// <param name="stage">Name for the progress.</param>
    /// <param name="fit">Settings.</param>
    /// <param name="workers">Who computes.</param>
    /// <param name="replicas">What is trained, once per worker in the same order; everything else keeps its value.</param>
    /// <param name="loss">The loss of a worker's share of the next step.</param>
    /// <param name="progress">Told after every step.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    /// <returns>Mean loss of the last tenth of the steps.</returns>
    public static double Run(
        string stage, FitConfig fit, Workers workers, IReadOnlyList<IReadOnlyList<Parameter>> replicas, Func<int, Tensor> loss,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var master = replicas[0];
        using var optimizer = optim.AdamW(master, fit.LearningRate, weight_decay: fit.WeightDecay);
        var clock = Stopwatch.StartNew();
        var losses = new double[workers.Count];
        double smooth = 0, tail = 0;
        int tailSteps = Math.Max(1, fit.Steps / 10);
        for (int step = 0; step < fit.Steps; step++)
        {
            cancellation.ThrowIfCancellationRequested();
            workers.Run(worker =>
            {
                using var scope = NewDisposeScope();
                foreach (var parameter in replicas[worker])
                    parameter.grad?.zero_();
                var value = loss(worker);
                value.backward();
                losses[worker] = value.item<float>();
            });
            double now = losses.Average();
            if (!double.IsFinite(now))
                throw new InvalidOperationException($"the loss of stage {stage} is {now} at step {step}");

            using var scope = NewDisposeScope();
            foreach (var group in optimizer.ParamGroups)
                group.LearningRate = fit.LearningRate * Schedule(step, fit);
            AverageGradients(replicas);
            nn.utils.clip_grad_norm_(master, fit.ClipNorm);
            optimizer.step();
            TakeOver(replicas);

            smooth = step == 0 ? now : smooth + 0.05 * (now - smooth);
            tail += step >= fit.Steps - tailSteps ? now / tailSteps : 0;
            progress.Report(new StageProgress(stage, step + 1, fit.Steps, "steps", clock.Elapsed, smooth));
        }
        return tail;
    }

    private static void AverageGradients(IReadOnlyList<IReadOnlyList<Parameter>> replicas)
    {
        if (replicas.Count == 1)
            return;
        using var nothing = no_grad();
        for (int i = 0; i < replicas[0].Count; i++)
        {
            // A worker whose share has nothing for a loss (no slice with an entity) leaves no gradient there; it counts as zero.
            if (replicas.All(r => r[i].grad is null))
                continue;
            var sum = replicas[0][i].grad ?? (replicas[0][i].grad = zeros_like(replicas[0][i]));
            foreach (var replica in replicas.Skip(1))
            {
                if (replica[i].grad is { } other)
                    sum.add_(other);
            }
            sum.div_(replicas.Count);
        }
    }

    private static void TakeOver(IReadOnlyList<IReadOnlyList<Parameter>> replicas)
    {
        using var nothing = no_grad();
        foreach (var other in replicas.Skip(1))
        {
            for (int i = 0; i < other.Count; i++)
                other[i].copy_(replicas[0][i]);
        }
    }

    /// <summary>Share of the highest learning rate at a step.</summary>
    private static double Schedule(int step, FitConfig fit)
    {
        double warm = Math.Max(1, fit.WarmUp * fit.Steps);
        return step < warm ? (step + 1) / warm : 0.5 * (1 + Math.Cos(Math.PI * (step - warm) / Math.Max(1, fit.Steps - warm)));
    }

    /// <summary>How many samples of a step a worker takes.</summary>
    public static int Share(FitConfig fit, Workers workers) => Math.Max(1, fit.Batch / workers.Count);
}
