using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Text;
using Pcrl.Train.Text.Segmentation;

namespace Pcrl.Tools;

/// <summary><c>evaluate PREDICTIONS REFERENCES</c>: every metric of docs/evaluation.md, as table and, on request, JSON, CSV and HTML.</summary>
internal static class EvaluateCommand
{
    private static readonly string[] TokenNames = ["jieba", "jieba-nopunct", "char", "llama"];

    private static readonly Argument<string> Predictions = new("PREDICTIONS") { Description = "Generated reports: JSON, JSON Lines, CSV or TSV with id and report" };
    private static readonly Argument<string> References = new("REFERENCES") { Description = "Reports of radiologists, in the same formats" };
    private static readonly Option<string[]> Against = new("--against") { Description = "Predictions of another system to compare with; may be repeated" };
    private static readonly Option<string?> Train = new("--train") { Description = "Reports of the training set: adds the baselines and the share of copied reports" };
    private static readonly Option<string> Tokens = new("--tokens") { Description = $"Tokenisations, comma-separated: {string.Join(", ", TokenNames)}", DefaultValueFactory = _ => "jieba,char" };
    private static readonly Option<string?> TokenizerFile = new("--tokenizer") { Description = "tokenizer.json, or a bundle whose tokenizer it shall be, for the tokenisation llama" };
    private static readonly Option<string?> UserDictionary = new("--user-dictionary") { Description = "jieba user dictionary, or 'none' [default: the brain-CT terms that ship with the program]" };
    private static readonly Option<bool> NoModel = new("--no-hmm") { Description = "Segment without jieba's hidden Markov model" };
    private static readonly Option<int> Resamples = new("--resamples") { Description = "Bootstrap samples and permutations; 0 leaves them out", DefaultValueFactory = _ => 1000 };
    private static readonly Option<int> Seed = new("--seed") { Description = "Seed of the resampling" };
    private static readonly Option<bool> AllowMismatch = new("--allow-mismatch") { Description = "Score the ids that both files hold instead of refusing files that differ" };
    private static readonly Option<string?> Json = new("--json") { Description = "Write everything, case by case, to this file" };
    private static readonly Option<string?> Csv = new("--csv") { Description = "Write the scores to this file" };
    private static readonly Option<string?> Html = new("--html") { Description = "Write one self-contained page with every case to this file" };

    public static Command Create()
    {
        var command = new Command("evaluate", "Score generated reports against references")
        {
            Predictions, References, Against, Train, Tokens, TokenizerFile, UserDictionary, NoModel, Resamples, Seed, AllowMismatch, Json, Csv, Html,
        };
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;
    }

    private static int Run(ParseResult parsed, CancellationToken cancellation)
    {
        if (parsed.GetValue(Resamples) is < 0 or > 100_000)
            throw new InputException("--resamples", "must be between 0 and 100000");
        var clock = Stopwatch.StartNew();
        string[] systems = [parsed.GetValue(Predictions)!, .. parsed.GetValue(Against) ?? []];
        string references = parsed.GetValue(References)!;
        CheckOutputs(parsed, [.. systems, references]);
        var pairing = CasePairing.Match(Records(references, cancellation), [.. systems.Select(file => Records(file, cancellation))]);
        if (pairing.Mismatch is { } mismatch && !parsed.GetValue(AllowMismatch))
            throw new InputException(systems[0], $"does not match {references}: {mismatch} (--allow-mismatch scores the others)");

        var segmenter = Segmenter(parsed);
        var request = new EvaluationRequest
        {
            Cases = pairing,
            SystemNames = Names(systems),
            Tokenisations = [.. parsed.GetValue(Tokens)!.Split(',').Distinct().Select(name => Choose(name.Trim(), segmenter, parsed.GetValue(TokenizerFile)))],
            Train = parsed.GetValue(Train) is { } train ? [.. ReportFile.Read(train, cancellation).SelectMany(record => record.Texts).Where(text => text.Trim().Length > 0)] : null,
            Resamples = parsed.GetValue(Resamples),
            Seed = parsed.GetValue(Seed),
        };
        if (request.Train is { Count: 0 })
            throw new InputException(parsed.GetValue(Train)!, "holds only empty reports");
        var result = Evaluator.Run(request, cancellation);

        if (parsed.GetValue(Json) is { } json)
            ResultFiles.WriteJson(result, json);
        if (parsed.GetValue(Csv) is { } csv)
            ResultFiles.WriteCsv(result, csv);
        if (parsed.GetValue(Html) is { } html)
            ResultPage.Write(result, Tokenisation.Jieba(segmenter), html);
        ResultTable.Write(result, Console.Out);
        Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Cases.Ids.Count} cases, {result.Systems.Count} systems: {clock.Elapsed.TotalSeconds:0.0} s"));
        return 0;
    }

    private static (string, IReadOnlyList<ReportRecord>) Records(string file, CancellationToken cancellation) => (file, ReportFile.Read(file, cancellation));

    private static JiebaSegmenter Segmenter(ParseResult parsed)
    {
        var dictionary = JiebaDictionary.LoadDefault();
        string? words = parsed.GetValue(UserDictionary);
        if (words is null)
            dictionary.AddMedicalWords();
        else if (words != "none")
            dictionary.AddUserDictionary(words);
        return new JiebaSegmenter(dictionary, parsed.GetValue(NoModel) ? null : HiddenMarkovModel.LoadDefault());
    }

    private static Tokenisation Choose(string name, JiebaSegmenter segmenter, string? tokenizer) => name switch
    {
        "jieba" => Tokenisation.Jieba(segmenter),
        "jieba-nopunct" => Tokenisation.JiebaWithoutPunctuation(segmenter),
        "char" => Tokenisation.Characters,
        "llama" => Tokenisation.Llama(new Tokenizer(LoadTokenizer(tokenizer ?? throw new InputException("--tokens", "llama needs --tokenizer")))),
        _ => throw new InputException("--tokens", $"'{name}' is none of {string.Join(", ", TokenNames)}"),
    };

    private static TokenizerData LoadTokenizer(string path) =>
        Directory.Exists(path) ? TokenizerData.LoadGguf(Path.Combine(path, Bundle.LanguageFile)) : TokenizerData.Load(path);

    /// <summary>Refuses, before any work, outputs that cannot be written or that would replace an input or one another.</summary>
    private static void CheckOutputs(ParseResult parsed, string[] inputs)
    {
        string[] outputs = [.. ((Option<string?>[])[Json, Csv, Html]).Select(parsed.GetValue).OfType<string>()];
        foreach (string output in outputs)
        {
            AtomicFile.CheckTarget(output, [.. inputs.Concat(new[] { Train, TokenizerFile, UserDictionary }.Select(parsed.GetValue)).OfType<string>().Where(input => input.Length > 0)]);
            if (outputs.Count(other => Path.GetFullPath(other) == Path.GetFullPath(output)) > 1)
                throw new InputException(output, "is another output as well");
        }
    }

    /// <summary>File names without folder; a number tells those apart that are alike.</summary>
    private static string[] Names(string[] files)
    {
        string[] names = [.. files.Select(file => string.Concat(Path.GetFileNameWithoutExtension(file).Select(c => char.IsControl(c) ? '?' : c)))];
        return [.. names.Select((name, i) => names.Count(n => n == name) == 1 ? name : $"{name} ({i + 1})")];
    }
}
