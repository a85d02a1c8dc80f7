using System.Text;
using System.Text.Unicode;
using Pcrl.Runtime;

namespace Pcrl.Train.Evaluation;

/// <summary>
/// Passes a text file on while it checks that every byte belongs to valid UTF-8 and that the file stays within a size. Read-only and forward-only:
/// a file larger than memory costs one buffer.
/// </summary>
internal sealed class CheckedUtf8Stream(string path, Stream inner, long longest) : Stream
{
    private const int LongestSequence = 4;

    private readonly byte[] _carry = new byte[LongestSequence]; // the beginning of a character whose end is in the next chunk
    private int _carried;
    private long _line = 1;
    private long _read;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => _read; set => throw new NotSupportedException(); }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override int Read(Span<byte> buffer)
    {
        int count = inner.Read(buffer);
        _read += count;
        if (_read > longest)
            throw new InputException(path, $"is larger than {longest >> 20} MB");
        if (count == 0 && _carried > 0 && buffer.Length > 0)
            throw Invalid();
        Check(buffer[..count]);
        return count;
    }

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
            inner.Dispose();
        base.Dispose(disposing);
    }

    private void Check(ReadOnlySpan<byte> chunk)
    {
        while (_carried > 0 && chunk.Length > 0)
        {
            _carry[_carried++] = chunk[0];
            chunk = chunk[1..];
            var status = Rune.DecodeFromUtf8(_carry.AsSpan(0, _carried), out _, out _);
            if (status == System.Buffers.OperationStatus.InvalidData)
                throw Invalid();
            if (status == System.Buffers.OperationStatus.Done)
                _carried = 0;
        }
        int unfinished = UnfinishedTail(chunk);
        var whole = chunk[..^unfinished];
        if (!Utf8.IsValid(whole))
            FindInvalid(whole);
        _line += whole.Count((byte)'\n');
        chunk[^unfinished..].CopyTo(_carry.AsSpan(_carried));
        _carried += unfinished;
    }

    /// <summary>How many bytes at the end begin a character that is not complete yet.</summary>
    private static int UnfinishedTail(ReadOnlySpan<byte> chunk)
    {
        for (int length = 1; length < LongestSequence && length <= chunk.Length; length++)
        {
            var tail = chunk[^length..];
            if (Rune.DecodeFromUtf8(tail, out _, out _) == System.Buffers.OperationStatus.NeedMoreData)
                return length;
        }
        return 0;
    }

    private void FindInvalid(ReadOnlySpan<byte> text)
    {
        while (Rune.DecodeFromUtf8(text, out var rune, out int length) == System.Buffers.OperationStatus.Done)
        {
            if (rune.Value == '\n')
                _line++;
            text = text[length..];
        }
        throw Invalid();
    }

    private InputException Invalid() => new(path, $"line {_line} is not valid UTF-8");
}
