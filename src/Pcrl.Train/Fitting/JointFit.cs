using System.Diagnostics;
using System.Globalization;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>Studies with the trunk's features of them.</summary>
internal sealed record FeatureSet(IReadOnlyList<TrainingStudy> Studies, FeatureCache Features) : IDisposable
{
    public void Dispose() => Features.Dispose();
}

/// <summary>
/// Trains branches, adapters and the heads of the clues on L = L_g + L_seg + L_CLe + L_CLt over cached features; trunk and LLM are frozen (§4.1). Everything random in
/// a batch follows from the seed and the batch's number, so a fit that was stopped goes on to the same bits.
/// </summary>
internal sealed class JointFit : IDisposable
{
    private const int ValidationBatch = 50;

    private readonly TrainedRun _run;
    private readonly JointFitConfig _fit;
    private readonly Workers _workers;
    private readonly FeatureSet _training;
    private readonly FeatureSet? _validation;
    private readonly JointObjective _objective;
    private readonly JointTargets _makeTargets;
    private readonly JointTarget[][] _targets, _validationTargets;
    private readonly int[] _views; // studies that are spliced
    private readonly StudySplicer _splicer;
    private readonly PcrlModel[] _models;
    private readonly FitLoop _loop;
    private readonly LossParts[] _parts;
    private readonly long[] _tokens;
    private readonly int _share, _count;
    private readonly Dictionary<long, int[]> _orders = [];
    private Dictionary<string, float[]>? _best; // weights of the best epoch, where one is looked for

    /// <param name="run">Its model is trained.</param>
    /// <param name="workers">Who computes.</param>
    /// <param name="training">Studies to learn from.</param>
    /// <param name="validation">Studies to look at after every epoch; null for none.</param>
    public JointFit(TrainedRun run, Workers workers, FeatureSet training, FeatureSet? validation)
    {
        (_run, _fit, _workers, _training, _validation) = (run, run.Config.JointFit, workers, training, validation);
        var loss = run.Config.Loss;
        _objective = new JointObjective(run.Prompt, loss);
        _count = _fit.Studies == 0 ? training.Studies.Count : Math.Min(_fit.Studies, training.Studies.Count);
        _makeTargets = new JointTargets(run.Tokenizer, run.Config);
        _targets = [.. training.Studies.Take(_count).AsParallel().AsOrdered().WithDegreeOfParallelism(workers.Count).Select(s => s.Spliceable ? [] : _makeTargets.Of(s))];
        _validationTargets = validation is null ? [] : [.. validation.Studies.Select(_makeTargets.Of)];
        _views = [.. Enumerable.Range(0, _count).Where(i => training.Studies[i].Spliceable)];
        _splicer = new StudySplicer([.. _views.Select(i => training.Studies[i])]);
        _share = FitLoop.Share(_fit, workers);
        _parts = new LossParts[workers.Count];
        _tokens = new long[workers.Count];

        _models = [run.Model, .. Enumerable.Range(1, workers.Count - 1).Select(_ => run.Model.Replicate())];
        var replicas = _models.Select(m => m.Train(loss).Select(p => p.Value).ToArray()).ToArray();
        _loop = new FitLoop("fit", _fit, workers, replicas, Loss)
        {
            Detail = () => Describe(Mean(_parts)),
            Rate = _fit.Schedule == "epochs" ? step => Math.Pow(_fit.EpochDecay, step / StepsPerEpoch) : step => FitLoop.Cosine(step, _fit),
        };
    }

    /// <summary>What happened so far.</summary>
    public FitHistory History { get; private set; } = new();

    /// <summary>Steps of an epoch: every study once.</summary>
    public int StepsPerEpoch => Math.Max(1, (int)Math.Ceiling((double)_count / (_share * _workers.Count * _fit.Accumulate)));

    /// <summary>Runs the fit to its end; the model is in evaluation mode afterwards.</summary>
    /// <param name="checkpoint">Where checkpoints go; null for none.</param>
    /// <param name="resume">Go on from the checkpoint, where there is one.</param>
    /// <param name="told">Told the history after every epoch.</param>
    /// <param name="progress">Told after every step.</param>
    /// <param name="cancellation">Stops between two steps.</param>
    /// <exception cref="Runtime.InputException">The checkpoint cannot be written, is damaged or belongs to another run.</exception>
    public void Run(FitCheckpoint? checkpoint, bool resume, Action<FitHistory>? told, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        if (resume && checkpoint?.Load(_run.Model, _loop) is var (history, best))
            (History, _best) = (history, best);
        bool stopped = History.Stopped(_fit.Patience);
        var clock = Stopwatch.StartNew();
        if (!stopped)
        {
            _loop.Run(() =>
            {
                History.Steps.Add(new StepRecord(_loop.Step, _loop.Loss, Mean(_parts), _loop.LearningRate, _tokens.Sum() / clock.Elapsed.TotalSeconds));
                Array.Clear(_tokens);
                bool last = _loop.Step == _fit.Steps, goOn = true;
                if (_validation is not null && (last || _loop.Step % StepsPerEpoch == 0))
                {
                    Validate(_validation, cancellation);
                    told?.Invoke(History);
                    goOn = !History.Stopped(_fit.Patience);
                }
                if (_fit.CheckpointEvery > 0 && (last || !goOn || _loop.Step % _fit.CheckpointEvery == 0))
                    checkpoint?.Save(_run.Model, _loop, History, _best);
                clock.Restart();
                return goOn;
            }, progress, cancellation);
        }
        if (_best is not null)
        {
            foreach (var (name, value) in RunFolder.Fitted(_run.Model))
                Weights.Set(value, _best[name]);
        }
        _run.Model.SetReportTraining(false);
        told?.Invoke(History);
    }

    /// <summary>The loss of a worker's share of a batch.</summary>
    private Tensor Loss(int worker, long number)
    {
        long share = number * _workers.Count + worker;
        var random = new PhantomRandom((ulong)_fit.Seed, (ulong)share);
        TorchDevice.SeedThread((long)random.Next()); // dropout
        var slices = new List<(int Study, int Slice)>(_share * _run.Config.SliceCount);
        var batch = new JointTarget[_share];
        for (int i = 0; i < _share; i++)
        {
            long at = share * _share + i;
            (var sources, batch[i]) = Turn(Order(at / _count)[at % _count], random);
            slices.AddRange(sources.Select((study, slice) => (study, slice)));
        }
        var (total, parts) = _objective.Loss(_models[worker], _training.Features.Take([.. slices]), batch);
        _parts[worker] = parts;
        _tokens[worker] += batch.Sum(Tokens);
        return total;
    }

    /// <summary>What is learned from in a study's turn: the study itself, or, where it is a view of a scan, one spliced anew. The study that each slice is of, and the target of one wording.</summary>
    private (IEnumerable<int> Sources, JointTarget Target) Turn(int study, PhantomRandom random)
    {
        if (!_training.Studies[study].Spliceable)
            return (Enumerable.Repeat(study, _run.Config.SliceCount), random.Pick<JointTarget>(_targets[study]));
        var (sources, spliced) = _splicer.Next(random);
        string findings = spliced.Findings[random.Below(spliced.Findings.Count)];
        return (sources.Select(view => _views[view]), _makeTargets.Of(spliced with { Findings = [findings] })[0]);
    }

    /// <summary>Every study once, in an order of its own for every epoch.</summary>
    private int[] Order(long epoch)
    {
        lock (_orders)
        {
            if (!_orders.TryGetValue(epoch, out int[]? order))
            {
                _orders.Remove(epoch - 2);
                _orders[epoch] = order = [.. Enumerable.Range(0, _count)];
                new Random(HashSeed(_fit.Seed, epoch)).Shuffle(order);
            }
            return order;
        }
    }

    private static int HashSeed(int seed, long epoch) => (int)new PhantomRandom((ulong)seed, ulong.MaxValue - (ulong)epoch).Next();

    /// <summary>Tokens that the LLM reads of a study.</summary>
    private long Tokens(JointTarget target) =>
        _run.Prompt.TokenCount + _run.Config.Visual.TokenCount(_run.Config.SliceCount) + target.Findings.Length
        + (_run.Config.Loss.TextEncoder == "llama" ? target.Theme.Length + (_run.Config.Loss.Entity > 0 ? target.Slices.Sum(s => s.Text.Length) : 0) : 0);

    /// <summary>Loss and greedy reports of the validation studies.</summary>
    private void Validate(FeatureSet validation, CancellationToken cancellation)
    {
        var model = _run.Model;
        model.SetReportTraining(false);
        double sum = 0;
        using (no_grad())
        {
            foreach (int[] studies in Enumerable.Range(0, validation.Studies.Count).Chunk(ValidationBatch))
            {
                using var scope = NewDisposeScope();
                var features = validation.Features.Take(studies);
                sum += _objective.Loss(model, features, [.. studies.Select(i => _validationTargets[i][0])]).Total.cpu().item<float>() * studies.Length;
            }
        }
        if (!double.IsFinite(sum))
            throw new Runtime.InputException("stage fit", $"the validation loss is {sum} after step {_loop.Step}: a lower learning rate may help");
        var reports = ReportWriter.Write(_run, validation.Features, Silent, cancellation);
        string[] references = [.. validation.Studies.Select(s => s.Findings[0])];
        double f1 = ReportScore.EntityF1(references, reports);
        bool better = History.Best is not { } best || f1 > best.CeF1;
        History.Epochs.Add(new EpochRecord(
            _loop.Step, sum / references.Length, f1, [.. references.Zip(reports).Take(_fit.Samples).Select(p => new SampleReport(p.First, p.Second))]));
        if (_fit.Patience > 0 && better)
            _best = RunFolder.Fitted(model).ToDictionary(w => w.Name, w => Weights.Floats(w.Value));
        model.SetReportTraining(true);
    }

    private static readonly IProgress<StageProgress> Silent = new Progress<StageProgress>();

    private static LossParts Mean(LossParts[] parts) => new(
        parts.Average(p => p.Report), parts.Average(p => p.Segmentation), parts.Average(p => p.Entity), parts.Average(p => p.Theme));

    private string Describe(LossParts parts)
    {
        string text = string.Create(CultureInfo.InvariantCulture, $"g {parts.Report:0.00} seg {parts.Segmentation:0.00} CLe {parts.Entity:0.00} CLt {parts.Theme:0.00}");
        return History.Steps is [.., var last] ? string.Create(CultureInfo.InvariantCulture, $"{text}, {last.TokensPerSecond:0} tokens/s") : text;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _loop.Dispose();
        foreach (var replica in _models.Skip(1))
            replica.Dispose();
    }
}
