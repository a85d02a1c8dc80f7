using System.Diagnostics;
using System.Text;
using System.Threading.Channels;

namespace Pcrl.Runtime.Language;

/// <summary>One text on its way: what the model has read of it, what it has written, and who is waiting for it.</summary>
/// <param name="prompt">[rows, width]: what follows the head of the prompt, as embeddings.</param>
/// <param name="visualTokens">Rows of the prompt that are visual tokens.</param>
/// <param name="promptTokens">Text tokens of the whole prompt.</param>
/// <param name="sampling">How tokens are drawn.</param>
/// <param name="text">Turns tokens into text.</param>
internal sealed class Sequence(float[] prompt, int visualTokens, int promptTokens, SamplingOptions sampling, TokenText text)
{
    /// <summary>Waking a reader costs more than a small model's token: nobody sees more than fifty pieces a second.</summary>
    private static readonly TimeSpan ShortestPause = TimeSpan.FromMilliseconds(20);

    private readonly Channel<GeneratedPiece> _pieces = Channel.CreateUnbounded<GeneratedPiece>(new() { SingleReader = true, SingleWriter = true });
    private readonly List<int> _tokens = [];
    private readonly StringBuilder _unread = new();
    private long _begin, _first, _handedOver;
    private int _steps, _drafted;
    private volatile bool _cancelled;

    /// <summary>Embeddings of the prompt behind its head, [rows, width].</summary>
    public float[] Prompt => prompt;

    /// <summary>Draws its tokens.</summary>
    public Sampler Sampler { get; } = new(sampling);

    /// <summary>Its pieces as they come.</summary>
    public ChannelReader<GeneratedPiece> Pieces => _pieces.Reader;

    /// <summary>Its number in the context, once it is running.</summary>
    public int Slot { get; set; }

    /// <summary>Positions whose keys and values the context holds, the head's included.</summary>
    public int Position { get; set; }

    /// <summary>Positions of head, prompt and what is written so far.</summary>
    /// <param name="head">Positions of the head.</param>
    /// <param name="width">Width of a row of the prompt.</param>
    public int End(int head, int width) => head + prompt.Length / width + _tokens.Count;

    /// <summary>Tokens written so far.</summary>
    public IReadOnlyList<int> Tokens => _tokens;

    /// <summary>Its draft, or null without speculation.</summary>
    public Draft? Draft { get; set; }

    /// <summary>Nobody waits for it any more.</summary>
    public bool IsCancelled => _cancelled;

    /// <summary>It has its last token or has failed.</summary>
    public bool IsDone { get; private set; }

    /// <summary>Lets the decoder drop it at its next step.</summary>
    public void Cancel() => _cancelled = true;

    /// <summary>Takes note of a batch it took part in.</summary>
    /// <param name="drafted">Drafted tokens in it.</param>
    public void Step(int drafted)
    {
        _steps++;
        _drafted += drafted;
    }

    /// <summary>Starts the clock.</summary>
    /// <param name="slot">Its number in the context.</param>
    public void Begin(int slot)
    {
        Slot = slot;
        _begin = Stopwatch.GetTimestamp();
    }

    /// <summary>Takes the next token.</summary>
    /// <param name="token">The token.</param>
    /// <param name="endsText">Whether it ends the text.</param>
    /// <param name="isFull">Whether the context has no position left for it.</param>
    public void Write(int token, bool endsText, bool isFull)
    {
        if (_first == 0)
            _first = Stopwatch.GetTimestamp();
        if (!endsText)
        {
            _tokens.Add(token);
            text.Append(token, _unread);
        }
        StopReason? stop = endsText ? StopReason.EndOfText
            : _tokens.Count == sampling.MaxTokens ? StopReason.TokenLimit
            : isFull ? StopReason.ContextFull
            : null;
        if (stop is null)
            return;
        IsDone = true;
        var summary = new GenerationSummary(
            stop.Value, visualTokens, promptTokens, _tokens.Count, _steps, _drafted,
            Stopwatch.GetElapsedTime(_begin, _first), Stopwatch.GetElapsedTime(_first));
        _pieces.Writer.TryWrite(TakePiece(summary));
        _pieces.Writer.Complete();
    }

    /// <summary>Gives out what was written since the last piece; to be called after each batch.</summary>
    public void HandOver()
    {
        if (IsDone || _unread.Length == 0 || Stopwatch.GetElapsedTime(_handedOver) < ShortestPause)
            return;
        _handedOver = Stopwatch.GetTimestamp();
        _pieces.Writer.TryWrite(TakePiece(null));
    }

    private GeneratedPiece TakePiece(GenerationSummary? summary)
    {
        var piece = new GeneratedPiece(_unread.ToString(), summary);
        _unread.Clear();
        return piece;
    }

    /// <summary>Ends it with an error.</summary>
    public void Fail(Exception error)
    {
        IsDone = true;
        if (_unread.Length > 0)
            _pieces.Writer.TryWrite(TakePiece(null));
        _pieces.Writer.TryComplete(error);
    }
}
