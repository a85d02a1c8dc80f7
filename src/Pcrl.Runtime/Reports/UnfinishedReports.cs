using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Runtime.Reports;

/// <summary>
/// The finished reports of many studies while others are still to be written, in <c>OUTPUT.partial</c>. Each is there as soon as it is finished, so that a
/// run that is interrupted or killed loses none, and the same run goes on behind them. A line per report; a torn or damaged line and what follows it are
/// written anew.
/// </summary>
public sealed class UnfinishedReports : IDisposable
{
    private const string Mark = "unfinished reports of pcrl";
    private static readonly EnumerationOptions SeriesBelow = new() { RecurseSubdirectories = true, MaxRecursionDepth = 1, IgnoreInaccessible = true, AttributesToSkip = 0 };

    private readonly FileStream _stream;
    private readonly IReadOnlyList<string> _studies;
    private readonly Dictionary<string, string> _stamps, _texts = [];

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>Reports that are finished.</summary>
    public int Count => _texts.Count;

    /// <summary>The studies that have none yet, in their order.</summary>
    public IReadOnlyList<string> Left => [.. _studies.Where(study => !_texts.ContainsKey(study))];

    /// <summary>The finished reports, in the order of the studies.</summary>
    public IReadOnlyList<string> Texts => [.. _studies.Where(_texts.ContainsKey).Select(study => _texts[study])];

    /// <summary>Begins, or goes on.</summary>
    /// <param name="output">The file that all reports will be written to.</param>
    /// <param name="run">What the reports depend on beside the studies, in words that change when it does.</param>
    /// <param name="studies">Paths of all studies. The report of one that has changed since is written anew.</param>
    /// <exception cref="InputException">The file belongs to another run or to something else: it is left as it is. Or it cannot be written.</exception>
    public UnfinishedReports(string output, string run, IReadOnlyList<string> studies)
    {
        Path = output + AtomicFile.PartialSuffix;
        AtomicFile.CheckTarget(Path);
        _studies = studies;
        _stamps = studies.Distinct().ToDictionary(study => study, Stamp);
        try
        {
            _stream = new FileStream(Path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            GoOn(run);
        }
        catch (Exception e)
        {
            _stream?.Dispose();
            if (e is IOException or UnauthorizedAccessException)
                throw new InputException(Path, $"cannot be written ({e.Message})", e);
            throw;
        }
    }

    /// <summary>Name, size and time of each file that is read of a study: a folder's own time tells nothing of a file that was written over.</summary>
    private static string Stamp(string study)
    {
        try
        {
            return Hash(FileStamp.Of(Directory.Exists(study) ? Directory.EnumerateFiles(study, "*", SeriesBelow) : [study]));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return ""; // reading the study will tell
        }
    }

    private void GoOn(string run)
    {
        byte[] head = Line(Mark, run), found = new byte[head.Length];
        found = found[.._stream.ReadAtLeast(found, found.Length, throwOnEndOfStream: false)];
        if (!head.AsSpan().StartsWith(found))
        {
            throw new InputException(Path, found.AsSpan().StartsWith(Line(Mark, "").AsSpan(..^3))
                ? "holds finished reports of a run with other studies, other options or another model: give those, or delete it"
                : "is in the way: finished reports are kept there until all are");
        }
        long end = head.Length;
        if (found.Length < head.Length)
        {
            _stream.Position = 0;
            _stream.Write(head);
        }
        else
        {
            var rest = new byte[_stream.Length - end];
            _stream.ReadExactly(rest);
            for (int at = 0, length; (length = Array.IndexOf(rest, (byte)'\n', at) + 1 - at) > 0 && Report(rest.AsSpan(at, length)) is var (study, stamp, text); at += length)
            {
                end += length;
                if (_stamps.GetValueOrDefault(study) == stamp)
                    _texts[study] = text;
            }
        }
        _stream.SetLength(end);
        _stream.Position = end;
        _stream.Flush();
    }

    private static (string Study, string Stamp, string Text)? Report(ReadOnlySpan<byte> line)
    {
        try
        {
            return JsonSerializer.Deserialize(line, ReportJson.Default.StringArray) is [{ } study, { } stamp, { } text, { } sum] && sum == Sum(study, stamp, text)
                ? (study, stamp, text) : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    // A report in which a bit has turned must not pass for one.
    private static string Sum(string study, string stamp, string text) => Hash($"{study}\n{stamp}\n{text}");

    private static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    private static byte[] Line(params string[] words) => [.. JsonSerializer.SerializeToUtf8Bytes(words, ReportJson.Default.StringArray), (byte)'\n'];

    /// <summary>Keeps a finished report.</summary>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public void Add(string study, string text)
    {
        try
        {
            _stream.Write(Line(study, _stamps[study], text, Sum(study, _stamps[study], text)));
            _stream.Flush();
            _texts[study] = text;
        }
        catch (IOException e)
        {
            throw new InputException(Path, $"cannot be written ({e.Message})", e);
        }
    }

    /// <summary>All are in the output: deletes the file.</summary>
    public void Finish()
    {
        _texts.Clear();
        Dispose();
    }

    /// <summary>Leaves the file to a later run, if it holds a report.</summary>
    public void Dispose()
    {
        _stream.Dispose();
        if (Count == 0)
            File.Delete(Path);
    }
}
