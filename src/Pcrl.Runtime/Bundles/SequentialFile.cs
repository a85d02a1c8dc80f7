using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Pcrl.Runtime.Bundles;

/// <summary>
/// A large file that is written from front to back, in large blocks and while the next one is filled. Where the file system can, it goes past the system's
/// cache, which a model would fill with what nobody reads soon and which costs a copy of every byte.
/// </summary>
internal sealed unsafe partial class SequentialFile : Stream
{
    private const int BufferBytes = 8 << 20, Block = 4096; // what lies past the cache begins and ends on blocks, in memory too

    private readonly SafeFileHandle _file;
    private bool _direct;
    private byte* _filling, _writing;
    private Task _write = Task.CompletedTask;
    private long _start; // of the buffer that is filled, in the file: a multiple of a block
    private int _filled;

    /// <summary>Opens or creates a file and locks it.</summary>
    /// <exception cref="IOException">It cannot be, or another process has it.</exception>
    public SequentialFile(string path)
    {
        _file = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        _filling = (byte*)NativeMemory.AlignedAlloc(BufferBytes, Block);
        _writing = (byte*)NativeMemory.AlignedAlloc(BufferBytes, Block);
        _direct = OperatingSystem.IsLinux() && SetDirect(true);
    }

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    /// <summary>Bytes in the file; what waits to be written is not among them.</summary>
    public override long Length => RandomAccess.GetLength(_file);

    public override long Position
    {
        get => _start + _filled;
        set => throw new NotSupportedException();
    }

    /// <summary>Cuts the file to its first bytes and goes on behind them. Before any writing only.</summary>
    public void GoOnAt(long length)
    {
        RandomAccess.SetLength(_file, length);
        (_start, _filled) = (length / Block * Block, (int)(length % Block));
        Directly(false, () => RandomAccess.Read(_file, new Span<byte>(_filling, _filled), _start)); // the beginning of the block that goes on
    }

    public override void Write(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int count = Math.Min(bytes.Length, BufferBytes - _filled);
            bytes[..count].CopyTo(new Span<byte>(_filling + _filled, count));
            bytes = bytes[count..];
            _filled += count;
            if (_filled == BufferBytes)
                WriteBehind();
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <summary>Returns when everything is on the disk.</summary>
    public override void Flush()
    {
        _write.GetAwaiter().GetResult();
        int whole = _filled / Block * Block, rest = _filled - whole;
        WriteBlocks(_filling, whole, _start);
        _start += whole;
        _filled = rest;
        new ReadOnlySpan<byte>(_filling + whole, rest).CopyTo(new Span<byte>(_filling, rest)); // it is written again when its block is full
        Directly(false, () => RandomAccess.Write(_file, new ReadOnlySpan<byte>(_filling, rest), _start));
        RandomAccess.FlushToDisk(_file);
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (_filling != null)
        {
            _write.ContinueWith(_ => { }, TaskScheduler.Default).Wait(); // it reads a buffer
            NativeMemory.AlignedFree(_filling);
            NativeMemory.AlignedFree(_writing);
            _filling = _writing = null;
            _file.Dispose();
        }
        base.Dispose(disposing);
    }

    private void WriteBehind()
    {
        _write.GetAwaiter().GetResult();
        byte* full = _filling;
        _filling = _writing;
        _writing = full;
        long at = _start;
        _write = Task.Run(() => WriteBlocks(full, BufferBytes, at));
        _start += BufferBytes;
        _filled = 0;
    }

    private void WriteBlocks(byte* bytes, int count, long at)
    {
        try
        {
            RandomAccess.Write(_file, new ReadOnlySpan<byte>(bytes, count), at);
        }
        catch (IOException) when (_direct)
        {
            // Some file systems promise to go past the cache and then refuse; a full disk says so the second time too.
            SetDirect(false);
            _direct = false;
            RandomAccess.Write(_file, new ReadOnlySpan<byte>(bytes, count), at);
        }
    }

    private void Directly(bool on, Action work)
    {
        if (_direct)
            SetDirect(on);
        work();
        if (_direct)
            SetDirect(!on);
    }

    private bool SetDirect(bool on)
    {
        const int SetFlags = 4, Direct = 0x4000; // F_SETFL, O_DIRECT on x64
        return FileControl(_file, SetFlags, on ? Direct : 0) == 0;
    }

    [LibraryImport("libc", EntryPoint = "fcntl")]
    private static partial int FileControl(SafeFileHandle file, int command, int argument);
}
