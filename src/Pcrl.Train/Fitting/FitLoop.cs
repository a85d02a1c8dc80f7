using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>The one optimisation loop: AdamW, warm-up and cosine, clipped gradients, a dispose scope per step.</summary>
internal static class FitLoop
{
    /// <summary>Takes <see cref="FitConfig.Steps"/> steps.</summary>
    /// <param name="stage">Name for the progress.</param>
    /// <param name="fit">Settings.</param>
    /// <param name="parameters">What is trained; everything else keeps its value.</param>
    /// <param name="loss">The loss of a step, by its number.</param>
    /// <param name="progress">Told after every step.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    /// <returns>Mean loss of the last tenth of the steps.</returns>
    public static double Run(
        string stage, FitConfig fit, IReadOnlyList<TorchSharp.Modules.Parameter> parameters, Func<int, Tensor> loss,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        using var optimizer = optim.AdamW(parameters, fit.LearningRate, weight_decay: fit.WeightDecay);
        var clock = Stopwatch.StartNew();
        double smooth = 0, tail = 0;
        int tailSteps = Math.Max(1, fit.Steps / 10);
        for (int step = 0; step < fit.Steps; step++)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            foreach (var group in optimizer.ParamGroups)
                group.LearningRate = fit.LearningRate * Schedule(step, fit);
            var value = loss(step);
            optimizer.zero_grad();
            value.backward();
            nn.utils.clip_grad_norm_(parameters, fit.ClipNorm);
            optimizer.step();
            double now = value.item<float>();
            if (!double.IsFinite(now))
                throw new InvalidOperationException($"the loss of stage {stage} is {now} at step {step}");
            smooth = step == 0 ? now : smooth + 0.05 * (now - smooth);
            tail += step >= fit.Steps - tailSteps ? now / tailSteps : 0;
            progress.Report(new StageProgress(stage, step + 1, fit.Steps, "steps", clock.Elapsed, smooth));
        }
        return tail;
    }

    /// <summary>Share of the highest learning rate at a step.</summary>
    private static double Schedule(int step, FitConfig fit)
    {
        double warm = Math.Max(1, fit.WarmUp * fit.Steps);
        return step < warm ? (step + 1) / warm : 0.5 * (1 + Math.Cos(Math.PI * (step - warm) / Math.Max(1, fit.Steps - warm)));
    }
}
