using System.Diagnostics;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>What the joint fit costs beside the bare modules, and whether it keeps what it should let go.</summary>
/// <param name="Fit">Median seconds of a step of the fit.</param>
/// <param name="Bare">Median seconds of forward pass, backward pass and AdamW on the same modules, in turns with the fit.</param>
/// <param name="Memory">Tensors alive and resident megabytes, ten times during the fit.</param>
public sealed record FitProfile(double Fit, double Bare, IReadOnlyList<(int Step, long Tensors, long Megabytes)> Memory)
{
    private const int Phantoms = 32, Turn = 10, Warm = 20;

    /// <summary>Measures with fresh weights, a few phantoms and one worker.</summary>
    /// <param name="config">Sizes and losses; its pretrained weights are not read.</param>
    /// <param name="steps">Steps of the fit, of which the bare modules take as many.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps.</param>
    /// <exception cref="Runtime.InputException">The LLM is quantised, so there cannot be two of it.</exception>
    public static FitProfile Measure(RunConfig config, int steps, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        config.CheckFit(several: true);
        config = config with { Threads = 1, JointFit = config.JointFit with { Steps = steps, Accumulate = 1, Patience = 0, Studies = 0 } };
        using var workers = new Workers(1);
        workers.Seed(config.Seed);
        var studies = TrainingStudy.Produce("studies", config.Phantoms.TrainingSeed, Phantoms, 1, TrainingStudy.Maker(config, config.Phantoms.Difficulty), progress, cancellation);
        var tokenizer = new Tokenizer(BytePairTrainer.Train(studies.SelectMany(s => s.Findings), config.Tokenizer));
        using var run = new TrainedRun(config, tokenizer, new PcrlModel(config.Shape(tokenizer.Data)), new Prompt(config.Prompt, tokenizer));
        using var training = new FeatureSet(studies, FeatureCache.Compute(null, run.Model, studies, config.SliceCount, workers, progress, cancellation));
        using var fit = new JointFit(run, workers, training, null);

        using var bare = run.Model.Replicate();
        var parameters = bare.Train(config.Loss).Select(p => p.Value).ToArray();
        using var optimizer = optim.AdamW(parameters, config.JointFit.LearningRate);
        var targets = new JointTargets(tokenizer, config);
        var batches = studies.Select(s => targets.Of(s)[0]).Chunk(config.JointFit.Batch).ToArray();
        var objective = new JointObjective(run.Prompt, config.Loss);
        void Bare(int step)
        {
            using var scope = NewDisposeScope();
            int at = step % batches.Length;
            foreach (var parameter in parameters)
                parameter.grad?.zero_();
            var features = training.Features.Take(batches[at].Select((_, i) => at * config.JointFit.Batch + i));
            objective.Loss(bare, features, batches[at]).Total.backward();
            optimizer.step();
        }

        List<double> fitTimes = [], bareTimes = [];
        var memory = new List<(int, long, long)>();
        long last = Stopwatch.GetTimestamp();
        fit.Run(null, false, null, new Steps(p =>
        {
            progress.Report(p);
            if (p.Done > Warm)
                fitTimes.Add(Stopwatch.GetElapsedTime(last).TotalSeconds);
            if (p.Done % Turn == 0)
            {
                for (int i = 0; i < Turn; i++)
                {
                    long start = Stopwatch.GetTimestamp();
                    Bare(p.Done + i);
                    if (p.Done > Warm)
                        bareTimes.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
                }
            }
            if (p.Done % Math.Max(1, steps / 10) == 0)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                memory.Add((p.Done, Tensor.TotalCount, Process.GetCurrentProcess().WorkingSet64 >> 20));
            }
            last = Stopwatch.GetTimestamp();
        }), cancellation);
        return new FitProfile(Median(fitTimes), Median(bareTimes), memory);
    }

    private sealed class Steps(Action<StageProgress> step) : IProgress<StageProgress>
    {
        public void Report(StageProgress value) => step(value);
    }

    private static double Median(List<double> values) => values.Count == 0 ? double.NaN : values.Order().ElementAt(values.Count / 2);
}
