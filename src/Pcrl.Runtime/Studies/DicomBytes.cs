using System.Buffers;
using Microsoft.Win32.SafeHandles;

namespace Pcrl.Runtime.Studies;

/// <summary>The bytes of a file, read where they are asked for: a DICOM header is short and the pixels behind it are not.</summary>
internal sealed class DicomBytes(string path, SafeFileHandle handle, int length) : IDisposable
{
    private readonly byte[] _part = ArrayPool<byte>.Shared.Rent(1 << 14);
    private int _start, _count;

    /// <summary>The file's.</summary>
    public string Path => path;

    /// <summary>Bytes in the file.</summary>
    public int Length => length;

    /// <summary>Some bytes, valid until the next call.</summary>
    /// <param name="at">The first; the file holds all of them.</param>
    /// <param name="count">At most <see cref="MostAtOnce"/>.</param>
    /// <exception cref="InputException">The file became shorter.</exception>
    public ReadOnlySpan<byte> Slice(int at, int count)
    {
        if (at < _start || at + count > _start + _count)
        {
            (_start, _count) = (at, 0);
            for (int read; _count < _part.Length && (read = RandomAccess.Read(handle, _part.AsSpan(_count), at + _count)) > 0;)
                _count += read;
            if (_count < count)
                throw DicomElements.Truncated(path);
        }
        return _part.AsSpan(at - _start, count);
    }

    /// <summary>Bytes of the longest <see cref="Slice"/>.</summary>
    public const int MostAtOnce = 1024;

    public void Dispose() => ArrayPool<byte>.Shared.Return(_part);
}
