using System.Diagnostics;
using System.Runtime.InteropServices;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Language;

public sealed partial class BatchDecoder
{
    /// <summary>What a text has in the current batch: rows it must read, then drafted ones; the last of the former and all of the latter give logits.</summary>
    /// <param name="Sequence">The text.</param>
    /// <param name="Unread">Rows of prompt and written tokens.</param>
    /// <param name="IsRead">Whether nothing is left to read: the text goes on from this batch.</param>
    /// <param name="FirstOutput">Row of the first logits.</param>
    /// <param name="Drafted">Drafted rows.</param>
    /// <param name="Padding">Rows behind them that nobody looks at.</param>
    private readonly record struct Part(Sequence Sequence, int Unread, bool IsRead, int FirstOutput, int Drafted, int Padding);

    /// <summary>A context of llama.cpp, and the only thread that uses it: writes some of the texts.</summary>
    private sealed class Writer : IDisposable
    {
        private const int Unknown = -1;

        private readonly BatchDecoder _decoder;
        private readonly LanguageModel _model;
        private readonly int _sequences;
        private readonly LlamaContextHandle _context;
        private readonly LlamaRows _rows;
        private readonly List<Sequence> _running = [];
        private readonly Queue<Sequence> _suspects = new();
        private readonly List<Part> _batch = [];
        private readonly List<double> _gains = [];
        private readonly DraftPolicy _policy = new();
        private readonly Lock _flight = new();
        private readonly Thread _thread;

        /// <param name="decoder">Whose texts it writes.</param>
        /// <param name="sequences">Most texts at a time.</param>
        /// <exception cref="InputException">Memory is short.</exception>
        public Writer(BatchDecoder decoder, int sequences)
        {
            (_decoder, _model, _sequences) = (decoder, decoder._model, sequences);
            int rows = Math.Min(MostRows, sequences * _model.ContextLength);
            var size = new LlamaContextSize(_model.ContextLength, sequences, rows, Math.Min(rows, sequences * (1 + decoder._mostDrafted)));
            _context = LlamaContextHandle.Create(_model, size);
            _rows = new LlamaRows(rows, _model.Width);
            _thread = new Thread(Run) { IsBackground = true, Name = "decoder" };
        }

        private int HeadLength => _decoder.HeadLength;

        private bool IsClosing => _decoder._closing.IsCancellationRequested;

        /// <summary>Begins to take texts.</summary>
        public void Start() => _thread.Start();

        /// <summary>Gives up the current batch if nobody waits for any of its texts.</summary>
        public void AbortIfCancelled()
        {
            lock (_flight)
            {
                if (_batch.Count > 0 && _batch.TrueForAll(static part => part.Sequence.IsCancelled))
                    _context.Abort(true);
            }
        }

        /// <summary>Gives up the current batch, once the decoder is closing.</summary>
        public void Abort()
        {
            lock (_flight)
                _context.Abort(true);
        }

        /// <summary>Waits for its thread.</summary>
        public void Join()
        {
            if (_thread.ThreadState != System.Threading.ThreadState.Unstarted)
                _thread.Join();
        }

        public void Dispose()
        {
            _context.Dispose();
            _rows.Dispose();
        }

        private nint Memory => LlamaNative.Memory(_context);

        private void Run()
        {
            try
            {
                Reset();
                while (true)
                {
                    Drop();
                    CloseGaps();
                    while (_running.Count + _suspects.Count < _sequences && Take() is { } arrival)
                        Admit(arrival);
                    Step();
                }
            }
            catch (Exception e)
            {
                // Closed; or a defect, or no memory even for the head: nothing can be written any more.
                FailAll(IsClosing ? new ObjectDisposedException(nameof(BatchDecoder)) : e);
            }
        }

        private void FailAll(Exception error)
        {
            Interlocked.CompareExchange(ref _decoder._ended, error, null); // the others end once they have written what they have
            _decoder._arrivals.CompleteAdding();
            foreach (var sequence in (IEnumerable<Sequence>)[.. _running, .. _suspects, .. _decoder._arrivals.GetConsumingEnumerable()])
                sequence.Fail(error);
        }

        /// <summary>The next arrival; waits for one only where nothing else is to be done.</summary>
        private Sequence? Take()
        {
            if (_running.Count + _suspects.Count == 0)
                return _decoder._arrivals.Take(_decoder._closing.Token);
            _decoder._closing.Token.ThrowIfCancellationRequested();
            return _decoder._arrivals.TryTake(out var arrival) ? arrival : null;
        }

        /// <summary>Takes a text into the slot behind the others.</summary>
        private void Admit(Sequence sequence)
        {
            sequence.Begin(_running.Count + _suspects.Count);
            Rewind(sequence);
            _running.Add(sequence);
        }

        /// <summary>
        /// Moves the last texts into slots that have become free, keys and values with them, and puts all in the order of their slots: llama.cpp computes a batch in one go only as far as each
        /// text in it has the slot behind that of the one before.
        /// </summary>
        private void CloseGaps()
        {
            int texts = _running.Count + _suspects.Count;
            for (int slot = 0; slot < texts; slot++)
            {
                if (_running.Concat(_suspects).Any(sequence => sequence.Slot == slot))
                    continue;
                var last = _running.Concat(_suspects).MaxBy(sequence => sequence.Slot)!;
                LlamaNative.Copy(Memory, last.Slot, slot, -1, -1);
                LlamaNative.Forget(Memory, last.Slot, HeadLength, -1); // the head stays for the next one
                last.Slot = slot;
            }
            _running.Sort(static (a, b) => a.Slot.CompareTo(b.Slot));
        }

        /// <summary>Takes a text out of its slot but for the head; what it was given and has written it would have to read again.</summary>
        private void Rewind(Sequence sequence)
        {
            LlamaNative.Forget(Memory, sequence.Slot, HeadLength, -1);
            sequence.Position = HeadLength;
        }

        /// <summary>Empties the context, whatever is in it, and reads the head of the prompt into every slot.</summary>
        private void Reset()
        {
            LlamaNative.ClearMemory(Memory, data: true);
            for (int slot = 0; slot < _sequences; slot++)
            {
                for (int position = 0; position < HeadLength;)
                {
                    _rows.Clear();
                    for (; position < HeadLength && _rows.Count < _rows.Capacity; position++)
                        _decoder._head.AsSpan(position * _model.Width, _model.Width).CopyTo(_rows.Add(slot, position, output: false));
                    _context.Decode(_rows.Batch);
                }
            }
        }

        /// <summary>Takes out the texts that have ended or that nobody waits for.</summary>
        private void Drop()
        {
            bool Goes(Sequence sequence)
            {
                if (sequence is { IsDone: false, IsCancelled: false })
                    return false;
                Rewind(sequence);
                return true;
            }
            _running.RemoveAll(Goes);
            while (_suspects.TryPeek(out var suspect) && Goes(suspect))
                _suspects.Dequeue();
        }

        /// <summary>One batch.</summary>
        private void Step()
        {
            var clock = Stopwatch.StartNew();
            lock (_flight)
            {
                Compose();
                _context.Abort(IsClosing);
            }
            try
            {
                if (_batch.Count == 0)
                    return;
                _context.Decode(_rows.Batch);
                LlamaNative.Synchronise(_context);
                var decoded = clock.Elapsed;
                int[]? drawn = DrawAhead();
                foreach (var part in _batch)
                    Read(part, drawn);
                _decoder.Stepped?.Invoke(new DecodedBatch(decoded, clock.Elapsed, _batch.ConvertAll(static part => part.Sequence.Slot)));
                if (_batch.TrueForAll(part => part.Unread == 1))
                    _policy.Measured(_rows.Count, clock.Elapsed.TotalSeconds);
                if (_suspects.TryPeek(out var suspect) && suspect.Tokens.Count > 0)
                    _running.Add(_suspects.Dequeue()); // it was not this one
            }
            catch (InputException e) when (!IsClosing) // a batch that closing has aborted is nobody's failure
            {
                Part[] failed = [.. _batch];
                Land();
                Isolate(failed, e);
            }
            finally
            {
                Land();
            }
        }

        /// <summary>Ends the current batch: from here on nobody who leaves can abort what the context does next.</summary>
        private void Land()
        {
            lock (_flight)
            {
                _batch.Clear();
                _context.Abort(IsClosing);
            }
        }

        /// <summary>Fills the batch: first the texts that are being written, with as much of their drafts as is worth its time, then, as far as there is room, prompts.</summary>
        private void Compose()
        {
            _rows.Clear();
            var texts = _suspects.TryPeek(out var suspect) ? [suspect] : CollectionsMarshal.AsSpan(_running);
            int depth = Depth(texts);
            foreach (bool hasBegun in (ReadOnlySpan<bool>)[true, false])
            {
                foreach (var sequence in texts)
                {
                    if (sequence.Tokens.Count > 0 == hasBegun && !Compose(sequence, depth, isAlone: texts.Length == 1))
                        return;
                }
            }
        }

        /// <summary>A text's rows, or as many as there is room for; whether there was room for any.</summary>
        private bool Compose(Sequence sequence, int depth, bool isAlone)
        {
            int width = _model.Width, prompt = sequence.Prompt.Length / width;
            int end = sequence.End(HeadLength, width), unread = Math.Min(end - sequence.Position, _rows.Capacity - _rows.Count);
            if (unread == 0)
                return false;
            bool isRead = sequence.Position + unread == end;
            for (int position = sequence.Position; position < sequence.Position + unread; position++)
            {
                var row = _rows.Add(sequence.Slot, position, output: position == end - 1);
                int at = position - HeadLength;
                if (at < prompt)
                    sequence.Prompt.AsSpan(at * width, width).CopyTo(row);
                else
                    _model.Embed(sequence.Tokens[at - prompt], row);
            }
            int first = _rows.Count - 1, drafted = 0, padding = 0;
            if (isRead && sequence.Tokens.Count > 0 && sequence.Draft is { } draft)
            {
                for (; drafted < Math.Min(depth, draft.Count) && _rows.Count < _rows.Capacity; drafted++)
                    _model.Embed(draft[drafted], _rows.Add(sequence.Slot, end + drafted, output: true));
                draft.Cut(drafted);
                // Texts with unequal rows llama.cpp computes one after another, which costs more than rows for nothing.
                for (; !isAlone && drafted + padding < depth && end + drafted + padding < _model.ContextLength && _rows.Count < _rows.Capacity; padding++)
                    _model.Embed(sequence.Tokens[^1], _rows.Add(sequence.Slot, end + drafted + padding, output: false));
            }
            sequence.Step(drafted);
            _batch.Add(new Part(sequence, unread, isRead, first, drafted, padding));
            return true;
        }

        /// <summary>Drafts for the texts that are being written; how many drafted tokens of each are worth their rows.</summary>
        private int Depth(ReadOnlySpan<Sequence> texts)
        {
            if (_decoder._phrases is not { IsCompletedSuccessfully: true } phrases)
                return 0;
            _gains.Clear();
            int writing = 0;
            foreach (var sequence in texts)
            {
                if (sequence.Tokens.Count == 0)
                    continue;
                var draft = sequence.Draft ??= new Draft(phrases.Result, _policy, sequence.Sampler, sequence.Tokens);
                draft.Extend(Math.Min(_decoder._mostDrafted, _model.ContextLength - sequence.End(HeadLength, _model.Width)));
                for (int i = 0; i < draft.Count; i++)
                {
                    if (i == _gains.Count)
                        _gains.Add(0);
                    _gains[i] += draft.Chance(i);
                }
                writing++;
            }
            if (writing > 0) // as far as there is room for all
                CollectionsMarshal.SetCount(_gains, Math.Min(_gains.Count, _rows.Capacity / writing - 1));
            return _decoder._options.WholeDrafts ? _gains.Count : _policy.Worth(CollectionsMarshal.AsSpan(_gains), writing);
        }

        /// <summary>
        /// What each row that gives logits would have drawn, by row; null where that is left until it is asked for. A token depends on its logits and its place alone, so where there is much to
        /// look at all rows are drawn from at once, also those that turn out to follow a wrong draft.
        /// </summary>
        private unsafe int[]? DrawAhead()
        {
            int vocabulary = _model.Config.VocabSize;
            long outputs = 0;
            foreach (var part in _batch)
                outputs += part.IsRead ? 1 + part.Drafted : 0;
            if (outputs * vocabulary < _decoder._options.LogitsForThreads)
                return null;
            var rows = _batch.Where(part => part.IsRead).SelectMany(part => Enumerable.Range(0, 1 + part.Drafted).Select(ahead => (Part: part, Ahead: ahead))).ToArray();
            nint[] logits = [.. rows.Select(row => (nint)_context.Logits(row.Part.FirstOutput + row.Ahead))]; // llama.cpp is asked on this thread only
            var drawn = new int[_rows.Count];
            Parallel.For(0, rows.Length, new ParallelOptions { MaxDegreeOfParallelism = _model.Threads }, i =>
            {
                var (part, ahead) = rows[i];
                ref int token = ref drawn[part.FirstOutput + ahead];
                try
                {
                    token = part.Sequence.Sampler.Next(new ReadOnlySpan<float>((float*)logits[i], vocabulary), part.Sequence.Tokens.Count + ahead);
                }
                catch (InputException)
                {
                    token = Unknown; // whoever needs it hears why
                }
            });
            return drawn;
        }

        /// <summary>Goes on with a text as long as its draft holds.</summary>
        /// <param name="part">Its rows.</param>
        /// <param name="drawn">See <see cref="DrawAhead"/>.</param>
        private void Read(Part part, int[]? drawn)
        {
            var sequence = part.Sequence;
            sequence.Position += part.Unread;
            int accepted = 0;
            while (part.IsRead)
            {
                int row = part.FirstOutput + accepted;
                var logits = _context.Logits(row, _model.Config.VocabSize);
                int token = drawn is not null && drawn[row] != Unknown ? drawn[row] : sequence.Sampler.Next(logits, sequence.Tokens.Count);
                if (_decoder.WrongRule is not null && accepted < part.Drafted)
                    token = _decoder.WrongRule(sequence.Sampler, logits, sequence.Draft![accepted], token);
                sequence.Write(token, _model.EndsText(token), isFull: sequence.Position + accepted == _model.ContextLength);
                if (sequence.IsDone || sequence.Draft is null || !sequence.Draft.Verify(token, accepted) || ++accepted > part.Drafted)
                    break;
            }
            sequence.HandOver();
            sequence.Position += accepted;
            if (accepted < part.Drafted + part.Padding)
                LlamaNative.Forget(Memory, sequence.Slot, sequence.Position, -1);
        }

        /// <summary>
        /// After a failure or an abort the context may hold anything, and what is not a number spoils whoever gets the slot next. A text that was alone
        /// has failed; the others read their texts again from the start, one at a time until each has shown that it is not the cause.
        /// </summary>
        private void Isolate(Part[] batch, InputException error)
        {
            if (batch is [var alone])
            {
                alone.Sequence.Fail(error);
                Drop();
            }
            Reset();
            foreach (var sequence in _running)
                _suspects.Enqueue(sequence);
            _running.Clear();
            foreach (var sequence in _suspects)
                Rewind(sequence);
        }
    }
}
