using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary>One piece of code in a CUDA library.</summary>
/// <param name="IsText">PTX, which a driver compiles when it is loaded; else machine code.</param>
/// <param name="Isa">Of PTX: ten times the major version of its instruction set, and the minor.</param>
/// <param name="Capability">Ten times the compute capability it is made for.</param>
internal readonly record struct CudaPiece(bool IsText, int Isa, int Capability);

/// <summary>
/// Whether a driver can run a library of CUDA code on the cards at hand. llama.cpp finds out when it computes first, and ends the process; so this is asked before it is loaded.
/// </summary>
internal static unsafe class CudaCode
{
    private const int MajorOfCapability = 75, MinorOfCapability = 76; // CUdevice_attribute
    private const int HeaderBytes = 16, EntryBytes = 48, Text = 1;

    /// <summary>Magic number, version and own length of a fat binary's header; how many bytes follow it stands behind.</summary>
    private static ReadOnlySpan<byte> Magic => [0x50, 0xed, 0x55, 0xba, 1, 0, HeaderBytes, 0];

    /// <summary>What keeps the library from running here, or null; null too where there is no driver, which the linker says better.</summary>
    public static string? Problem(string library)
    {
        if (!NativeLibrary.TryLoad("libcuda.so.1", out nint cuda))
            return null;
        var initialise = (delegate* unmanaged[Cdecl]<uint, int>)NativeLibrary.GetExport(cuda, "cuInit");
        var version = (delegate* unmanaged[Cdecl]<int*, int>)NativeLibrary.GetExport(cuda, "cuDriverGetVersion");
        var count = (delegate* unmanaged[Cdecl]<int*, int>)NativeLibrary.GetExport(cuda, "cuDeviceGetCount");
        var attribute = (delegate* unmanaged[Cdecl]<int*, int, int, int>)NativeLibrary.GetExport(cuda, "cuDeviceGetAttribute");
        int driver, cards;
        if (initialise(0) != 0 || version(&driver) != 0 || count(&cards) != 0)
            return null;
        var pieces = Read(library);
        for (int card = 0; card < cards; card++)
        {
            int major, minor;
            if (attribute(&major, MajorOfCapability, card) == 0 && attribute(&minor, MinorOfCapability, card) == 0 && Problem(pieces, driver, 10 * major + minor) is { } problem)
                return problem;
        }
        return null;
    }

    /// <summary>What keeps a card from running the code, or null.</summary>
    /// <param name="pieces">The code.</param>
    /// <param name="driver">The CUDA version that the driver says it is of: 13020 is 13.2.</param>
    /// <param name="capability">Ten times the card's compute capability.</param>
    internal static string? Problem(IReadOnlyList<CudaPiece> pieces, int driver, int capability)
    {
        var (major, minor) = (driver / 1000, driver % 1000 / 10);
        int isa = 10 * (major - 4) + minor; // since CUDA 13; older drivers have no use for a library of CUDA 13 anyway
        bool Runs(CudaPiece piece) => piece.IsText
            ? piece.Capability <= capability && piece.Isa <= isa
            : piece.Capability / 10 == capability / 10 && piece.Capability <= capability;
        if (pieces.Count == 0 || pieces.Any(Runs))
            return null;
        string card = $"compute capability {capability / 10}.{capability % 10}";
        CudaPiece[] texts = [.. pieces.Where(piece => piece.IsText && piece.Capability <= capability)];
        if (texts.Length == 0)
            return $"it has no code for {card}";
        var nearest = texts.MaxBy(piece => piece.Capability);
        return $"its code for {card} is PTX {nearest.Isa / 10}.{nearest.Isa % 10}, which a driver of CUDA {major}.{minor} cannot compile; build with -p:LlamaCudaCard={nearest.Capability}";
    }

    /// <summary>The pieces of the first fat binary of a library; its others have the like. None where there is none.</summary>
    internal static List<CudaPiece> Read(string library)
    {
        if (new FileInfo(library).Length == 0)
            return []; // cannot be mapped
        using var file = MemoryMappedFile.CreateFromFile(library, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
        using var view = file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        byte* start = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
        try
        {
            var bytes = new ReadOnlySpan<byte>(start, (int)Math.Min(new FileInfo(library).Length, int.MaxValue));
            int at = bytes.IndexOf(Magic);
            return at < 0 ? [] : Pieces(bytes[at..]);
        }
        finally
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
        }
    }

    private static List<CudaPiece> Pieces(ReadOnlySpan<byte> binary)
    {
        var pieces = new List<CudaPiece>();
        ulong length = binary.Length < HeaderBytes ? 0 : BinaryPrimitives.ReadUInt64LittleEndian(binary[Magic.Length..]);
        binary = binary[Math.Min(HeaderBytes, binary.Length)..];
        if (length < (ulong)binary.Length)
            binary = binary[..(int)length];
        while (binary.Length >= EntryBytes)
        {
            int isa = 10 * BinaryPrimitives.ReadUInt16LittleEndian(binary[26..]) + BinaryPrimitives.ReadUInt16LittleEndian(binary[24..]);
            pieces.Add(new CudaPiece(BinaryPrimitives.ReadUInt16LittleEndian(binary) == Text, isa, BinaryPrimitives.ReadInt32LittleEndian(binary[28..])));
            ulong next = BinaryPrimitives.ReadUInt32LittleEndian(binary[4..]) + BinaryPrimitives.ReadUInt64LittleEndian(binary[8..]);
            if (next < EntryBytes || next >= (ulong)binary.Length)
                break;
            binary = binary[(int)next..];
        }
        return pieces;
    }
}
