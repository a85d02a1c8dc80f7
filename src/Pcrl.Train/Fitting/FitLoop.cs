using System.Diagnostics;
using Pcrl.Train.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// The one optimisation loop: AdamW, a schedule of the learning rate, accumulated and clipped gradients, a dispose scope per pass. Each worker has a replica of
/// what is trained and takes its share of the batch; the gradients are averaged into the first replica, whose values the others then take over. Replicas in
/// bfloat16 follow a float32 copy of the first: their own steps would be lost in rounding.
/// </summary>
internal sealed class FitLoop : IDisposable
{
    private readonly string _stage;
    private readonly FitConfig _fit;
    private readonly Workers _workers;
    private readonly IReadOnlyList<IReadOnlyList<Parameter>> _replicas;
    private readonly IReadOnlyList<Parameter> _master; // what the optimizer moves
    private readonly Func<int, long, Tensor> _loss;
    private readonly AdamW _optimizer;

    /// <param name="stage">Name for the progress.</param>
    /// <param name="fit">Settings.</param>
    /// <param name="workers">Who computes.</param>
    /// <param name="replicas">What is trained, once per worker in the same order; everything else keeps its value.</param>
    /// <param name="loss">The loss of a worker's share of a batch; batches are numbered through the whole fit.</param>
    public FitLoop(
        string stage, FitConfig fit, Workers workers, IReadOnlyList<IReadOnlyList<Parameter>> replicas, Func<int, long, Tensor> loss)
    {
        (_stage, _fit, _workers, _replicas, _loss) = (stage, fit, workers, replicas, loss);
        _master = [.. replicas[0].Select(p => p.dtype == ScalarType.BFloat16 ? nn.Parameter(p.detach().to(float32)) : p)];
        _optimizer = optim.AdamW(_master, fit.LearningRate, weight_decay: fit.WeightDecay);
        Rate = step => Cosine(step, fit);
    }

    /// <summary>Share of the highest learning rate at a step; warm-up and cosine unless set.</summary>
    public Func<int, double> Rate { get; init; }

    /// <summary>Steps taken.</summary>
    public int Step { get; private set; }

    /// <summary>Learning rate of the last step.</summary>
    public double LearningRate { get; private set; }

    /// <summary>Loss of the last step.</summary>
    public double Loss { get; private set; }

    /// <summary>Running mean of the loss.</summary>
    public double Smooth { get; private set; }

    /// <summary>Mean loss of the last tenth of the steps, once these are taken.</summary>
    public double Tail { get; private set; }

    /// <summary>What the progress tells besides the loss.</summary>
    public Func<string>? Detail { get; init; }

    /// <summary>Takes <see cref="FitConfig.Steps"/> steps.</summary>
    /// <returns><see cref="Tail"/>.</returns>
    public static double Run(
        string stage, FitConfig fit, Workers workers, IReadOnlyList<IReadOnlyList<Parameter>> replicas, Func<int, Tensor> loss,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        using var loop = new FitLoop(stage, fit, workers, replicas, (worker, _) => loss(worker));
        loop.Run(null, progress, cancellation);
        return loop.Tail;
    }

    /// <summary>Takes the steps that are left.</summary>
    /// <param name="goOn">Called after every step; false ends the fit.</param>
    /// <param name="progress">Told after every step.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    public void Run(Func<bool>? goOn, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        int first = Step, tailSteps = Math.Max(1, _fit.Steps / 10);
        while (Step < _fit.Steps)
        {
            cancellation.ThrowIfCancellationRequested();
            Loss = Backward();
            if (!double.IsFinite(Loss))
                throw new Runtime.InputException($"stage {_stage}", $"the loss is {Loss} at step {Step}: a lower learning rate may help");
            using (NewDisposeScope())
            {
                LearningRate = _fit.LearningRate * Rate(Step);
                foreach (var group in _optimizer.ParamGroups)
                    group.LearningRate = LearningRate;
                AverageGradients();
                nn.utils.clip_grad_norm_(_master, _fit.ClipNorm);
                _optimizer.step();
                TakeOver();
            }
            Smooth = Step == 0 ? Loss : Smooth + 0.05 * (Loss - Smooth);
            Tail += Step >= _fit.Steps - tailSteps ? Loss / tailSteps : 0;
            Step++;
            progress.Report(new StageProgress(_stage, Step, _fit.Steps, "steps", clock.Elapsed, Smooth) { First = first, Detail = Detail?.Invoke() });
            if (goOn?.Invoke() == false)
                return;
        }
    }

    /// <summary>The gradients of a step in every replica; returns the mean loss.</summary>
    private double Backward()
    {
        var losses = new double[_workers.Count];
        _workers.Run(worker =>
        {
            foreach (var parameter in _replicas[worker])
                parameter.grad?.zero_();
            for (int part = 0; part < _fit.Accumulate; part++)
            {
                using var scope = NewDisposeScope();
                var value = _loss(worker, (long)Step * _fit.Accumulate + part);
                if (_fit.Accumulate > 1)
                    value = value / _fit.Accumulate;
                value.backward();
                losses[worker] += value.cpu().item<float>();
            }
        });
        return losses.Average();
    }

    private void AverageGradients()
    {
        using var nothing = no_grad();
        for (int i = 0; i < _master.Count; i++)
        {
            var others = _replicas.Select(r => r[i]).Where(p => !ReferenceEquals(p, _master[i])).ToList();
            // A worker whose share has nothing for a loss (no slice with an entity) leaves no gradient there; it counts as zero.
            if (others.Count == 0 || _replicas.All(r => r[i].grad is null))
                continue;
            var sum = _master[i].grad ?? (_master[i].grad = zeros_like(_master[i]));
            if (others.Count == _replicas.Count)
                sum.zero_();
            foreach (var other in others)
            {
                if (other.grad is { } gradient)
                    sum.add_(gradient);
            }
            sum.div_(_replicas.Count);
        }
    }

    private void TakeOver()
    {
        using var nothing = no_grad();
        foreach (var replica in _replicas)
        {
            for (int i = 0; i < replica.Count; i++)
            {
                if (!ReferenceEquals(replica[i], _master[i]))
                    replica[i].copy_(_master[i]);
            }
        }
    }

    /// <summary>What the optimizer remembers of every parameter, in the order of the first replica.</summary>
    public IReadOnlyList<AdamW.State> Moments => [.. _optimizer.state_dict().State.Cast<AdamW.State>()];

    /// <summary>Goes on where another loop was: after its parameters and <see cref="Moments"/> were filled in.</summary>
    /// <param name="step">Its <see cref="Step"/>.</param>
    /// <param name="smooth">Its <see cref="Smooth"/>.</param>
    /// <param name="tail">Its <see cref="Tail"/>.</param>
    public void Resume(int step, double smooth, double tail)
    {
        (Step, Smooth, Tail) = (step, smooth, tail);
        using (no_grad())
        {
            // What has had a gradient keeps one from then on, if only of zeros, and so moves on with its momentum.
            foreach (var (parameter, moments) in _master.Zip(Moments))
            {
                if (moments.step > 0)
                    parameter.grad = zeros_like(parameter);
            }
        }
        TakeOver();
    }

    /// <summary>Linear warm-up, then a cosine to zero.</summary>
    public static double Cosine(int step, FitConfig fit)
    {
        double warm = Math.Max(1, fit.WarmUp * fit.Steps);
        return step < warm ? (step + 1) / warm : 0.5 * (1 + Math.Cos(Math.PI * (step - warm) / Math.Max(1, fit.Steps - warm)));
    }

    /// <summary>How many samples of a batch a worker takes.</summary>
    public static int Share(FitConfig fit, Workers workers) => Math.Max(1, fit.Batch / workers.Count);

    /// <inheritdoc/>
    public void Dispose()
    {
        _optimizer.Dispose();
        foreach (var copy in _master.Where((p, i) => !ReferenceEquals(p, _replicas[0][i])))
            copy.Dispose();
    }
}
