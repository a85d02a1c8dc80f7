using System.IO.MemoryMappedFiles;
using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>A file as read-only memory.</summary>
internal sealed unsafe class MappedFile : IDisposable
{
    private readonly MemoryMappedFile _mapping;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _start;

    private MappedFile(MemoryMappedFile mapping, long length)
    {
        _mapping = mapping;
        Length = length;
        _view = mapping.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _start);
    }

    public long Length { get; }

    /// <exception cref="InputException">Missing, not readable, or empty.</exception>
    public static MappedFile Open(string path)
    {
        try
        {
            long length = new FileInfo(path).Length;
            if (length == 0)
                throw new InputException(path, "is empty");
            return new MappedFile(MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read), length);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw InputException.Unreadable(path, e);
        }
    }

    /// <summary>Bytes of the file, in place; valid until <see cref="Dispose"/>.</summary>
    public ReadOnlySpan<byte> Bytes(long offset, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, Length - offset);
        return new ReadOnlySpan<byte>(_start + offset, count);
    }

    /// <summary>Says that a part has been read for now (see <see cref="MappedMemory"/>).</summary>
    public void Release(long offset, int count) => MappedMemory.Release(_start + offset, count);

    public void Dispose()
    {
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _mapping.Dispose();
    }
}
