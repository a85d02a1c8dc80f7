using System.Diagnostics;
using System.Runtime.CompilerServices;
using Pcrl.Kernels;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Studies;
using Pcrl.Runtime.Vision;

namespace Pcrl.Runtime.Reports;

/// <summary>Where and how a bundle runs.</summary>
public sealed record ReporterOptions
{
    /// <summary>Device of the vision kernels.</summary>
    public DeviceKind Device { get; init; } = DeviceKind.Auto;

    /// <summary>Device of the language model.</summary>
    public LanguageDevice LanguageDevice { get; init; } = LanguageDevice.Auto;

    /// <summary>Precision of the vision kernels. A study takes a GPU little time in either beside the language model, so fp32 is the default: reports are the CPU's.</summary>
    public Precision Precision { get; init; } = Precision.Fp32;

    /// <summary>CPU threads of both halves, at most one per core; 0 for one per core.</summary>
    public int Threads { get; init; }

    /// <summary>Reports written at the same time, 1 to <see cref="BatchDecoder.MostSequences"/>.</summary>
    public int Parallel { get; init; } = 1;

    /// <summary>Drafts tokens from the bundle's phrases and checks them together: faster, the same text.</summary>
    public bool Speculation { get; init; } = true;

    /// <summary>What <see cref="On"/> knows.</summary>
    public static IReadOnlyList<string> DeviceNames { get; } = ["auto", "cpu", "cuda", "opencl", "vulkan"];

    /// <summary>The same on a device. Where only one half can run on it (opencl: vision; vulkan: the language model), the other chooses its own.</summary>
    /// <param name="device">One of <see cref="DeviceNames"/>.</param>
    public ReporterOptions On(string device) => this with
    {
        Device = Enum.TryParse<DeviceKind>(device, ignoreCase: true, out var vision) ? vision : DeviceKind.Auto,
        LanguageDevice = Enum.TryParse<LanguageDevice>(device, ignoreCase: true, out var language) ? language : LanguageDevice.Auto,
    };
}

/// <summary>A piece of a report as it grows; the last one carries the whole.</summary>
/// <param name="Text">New characters, may be empty.</param>
/// <param name="Report">Set on the last piece only.</param>
public sealed record ReportPiece(string Text, Report? Report = null);

/// <summary>A study and the time it took to read.</summary>
public sealed record TimedStudy(Study Study, TimeSpan Elapsed);

/// <summary>A study ready for the encoder.</summary>
/// <param name="Study">The study.</param>
/// <param name="Selection">Which of its slices were chosen, and why.</param>
/// <param name="Slices">[24, S, S], 0 to 1.</param>
/// <param name="Elapsed">Time of reading, choosing and preparing.</param>
public sealed record PreparedStudy(Study Study, SliceSelection Selection, float[] Slices, TimeSpan Elapsed);

/// <summary>
/// The way of a CT: study → 24 slices → visual tokens → LLM → draft report. Opened once per bundle, used for any number of studies; while
/// some are written others can be encoded.
/// </summary>
public sealed class Reporter : IDisposable
{
    private const int MostThreads = 256;
    private readonly Bundle _bundle;
    private readonly DeviceEncoder _encoder;
    private readonly LanguageModel _language;
    private readonly BatchDecoder _decoder;
    private readonly SemaphoreSlim _encoding;
    private readonly int _encoders; // studies that are encoded at a time
    private int _underWay;
    private readonly CancellationTokenSource _closing = new();
    private readonly TimeSpan _load;

    private Reporter(Bundle bundle, DeviceEncoder encoder, LanguageModel language, BatchDecoder decoder, TimeSpan load)
    {
        _decoder = decoder;
        _bundle = bundle;
        _encoder = encoder;
        _language = language;
        _load = load;
        _encoders = encoder.Guests > 0 ? StudiesAtATime : 1;
        _encoding = new SemaphoreSlim(_encoders);
    }

    /// <summary>The manifest of the opened bundle.</summary>
    public Manifest Manifest => _bundle.Manifest;

    /// <summary>Reports that are written at the same time; more wait for their turn.</summary>
    public int Parallel => _decoder.Sequences;

    /// <summary>CPU threads of both halves.</summary>
    public int Threads => _language.Threads;

    /// <summary>Studies of many that are read at a time, and as many that are encoded: half as many as there are threads, two at the least.</summary>
    internal int StudiesAtATime => Math.Max(2, Threads / 2);

    /// <summary>One line: the devices of vision kernels and language model, and why.</summary>
    public string Device => $"{_encoder.Choice}; {_language.Choice}";

    /// <summary>Verifies and loads a bundle.</summary>
    /// <exception cref="InputException">The bundle is incomplete, damaged, or does not fit together.</exception>
    public static Reporter Open(string bundleFolder, ReporterOptions options, CancellationToken cancellation = default)
    {
        if (options.Threads is < 0 or > MostThreads)
            throw new InputException("threads", $"must be between 0 and {MostThreads}, is {options.Threads}");
        var clock = Stopwatch.StartNew();
        var bundle = Bundle.Open(bundleFolder, cancellation);
        var manifest = bundle.Manifest;
        // More threads than cores wait for each other spinning: a study would take minutes.
        int threads = Math.Min(options.Threads, Environment.ProcessorCount);
        DeviceEncoder? encoder = null;
        LanguageModel? language = null;
        try
        {
            encoder = DeviceEncoder.Load(bundle.VisualPath, manifest.Visual, Kernels.Device.Open(options.Device, threads, options.Precision), guests: options.Parallel > 1);
            language = LanguageModel.Load(bundle.LanguagePath, new LanguageOptions { Device = options.LanguageDevice, Threads = threads, ContextLength = manifest.ContextLength });
            if (language.Width != manifest.Visual.TokenWidth)
                throw new InputException(bundle.LanguagePath, $"has width {language.Width}, the visual tokens have {manifest.Visual.TokenWidth}");
            var decoder = new BatchDecoder(language, manifest.Prompt, new DecodingOptions
            {
                Sequences = options.Parallel,
                Speculation = options.Speculation,
                Phrases = bundle.ReadPhrases(),
            });
            return new Reporter(bundle, encoder, language, decoder, clock.Elapsed);
        }
        catch
        {
            language?.Dispose();
            encoder?.Dispose();
            throw;
        }
    }

    /// <summary>Reads a study and takes the time. Needs no model, so it can run while one is loaded.</summary>
    /// <exception cref="InputException">The study cannot be read or is no axial head CT.</exception>
    public static TimedStudy Read(string path, CancellationToken cancellation = default)
    {
        var clock = Stopwatch.StartNew();
        return new TimedStudy(StudyReader.Read(path, cancellation), clock.Elapsed);
    }

    /// <summary>The 24 slices of a study as the model sees them.</summary>
    /// <param name="study">The study.</param>
    /// <param name="window">Window for Hounsfield input.</param>
    /// <exception cref="InputException">The study does not show a head from skull base to vertex.</exception>
    public PreparedStudy Prepare(TimedStudy study, WindowChoice window)
    {
        var clock = Stopwatch.StartNew();
        var selection = SliceSelector.Select(study.Study);
        float[] slices = SliceImages.Prepare(study.Study, selection, Manifest.Visual.ImageSize, window);
        return new PreparedStudy(study.Study, selection, slices, study.Elapsed + clock.Elapsed);
    }

    /// <summary>Writes the report of a prepared study, piece by piece.</summary>
    /// <exception cref="InputException">An option is out of range, or the model breaks down (non-finite logits).</exception>
    /// <exception cref="OperationCanceledException">Cancelled, at any point.</exception>
    /// <exception cref="ObjectDisposedException">The reporter was closed meanwhile.</exception>
    public async IAsyncEnumerable<ReportPiece> WriteAsync(
        PreparedStudy study, SamplingOptions sampling, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        using var underWay = BeginWork();
        var clock = Stopwatch.StartNew();
        float[] visualTokens = await EncodeAsync(study, cancellation).ConfigureAwait(false);
        var encode = clock.Elapsed;
        var text = new System.Text.StringBuilder();
        GenerationSummary? summary = null;
        await foreach (var piece in _decoder.GenerateAsync(visualTokens, sampling, cancellation).ConfigureAwait(false))
        {
            text.Append(piece.Text);
            summary = piece.Summary;
            if (piece.Text.Length > 0)
                yield return new ReportPiece(piece.Text);
        }
        var report = new Report
        {
            Text = text.ToString(),
            Model = Manifest.Model,
            Slices = [.. study.Selection.Slices.Select(s => new ReportSlice(s.Index, s.Source, s.Layer, s.Level, s.Reason))],
            SetAside = study.Study.SetAside,
            Notes = study.Study.Notes,
            VisualTokens = summary!.VisualTokens,
            PromptTokens = summary.PromptTokens,
            GeneratedTokens = summary.GeneratedTokens,
            Steps = summary.Steps,
            Stop = System.Text.Json.JsonNamingPolicy.SnakeCaseLower.ConvertName(summary.Stop.ToString()),
            Seed = sampling.Seed,
            Temperature = sampling.Temperature,
            TopP = sampling.TopP,
            Device = Device,
            TimingsMs = new ReportTimings(
                _load.TotalMilliseconds, study.Elapsed.TotalMilliseconds, encode.TotalMilliseconds,
                summary.Prefill.TotalMilliseconds, summary.Decode.TotalMilliseconds, clock.Elapsed.TotalMilliseconds),
        };
        yield return new ReportPiece("", report);
    }

    /// <summary>Until the result is disposed, a study or a batch of them is under way. Only a study that is alone is encoded on all threads: beside others they would wait for each other.</summary>
    internal IDisposable BeginWork() => new Work(this);

    /// <summary>The visual tokens, [48, width].</summary>
    private async Task<float[]> EncodeAsync(PreparedStudy study, CancellationToken cancellation)
    {
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation, _closing.Token);
        try
        {
            await _encoding.WaitAsync(ending.Token).ConfigureAwait(false);
            try
            {
                bool onAllThreads = _encoders == 1 || Volatile.Read(ref _underWay) == 1;
                return await Task.Run(() => onAllThreads ? _encoder.Encode(study.Slices, ending.Token) : _encoder.EncodeAsGuest(study.Slices, ending.Token), ending.Token).ConfigureAwait(false);
            }
            finally
            {
                _encoding.Release();
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new ObjectDisposedException(nameof(Reporter));
        }
    }

    /// <summary>Ends what is being written, whose callers get an <see cref="ObjectDisposedException"/>, and frees the models.</summary>
    public void Dispose()
    {
        if (_closing.IsCancellationRequested)
            return;
        _closing.Cancel();
        _decoder.Dispose();
        for (int i = 0; i < _encoders; i++)
            _encoding.Wait(); // for good: kernels must not find their memory freed
        _language.Dispose();
        _encoder.Dispose();
    }

    private sealed class Work : IDisposable
    {
        private readonly Reporter _reporter;

        public Work(Reporter reporter)
        {
            _reporter = reporter;
            Interlocked.Increment(ref reporter._underWay);
        }

        public void Dispose() => Interlocked.Decrement(ref _reporter._underWay);
    }
}
