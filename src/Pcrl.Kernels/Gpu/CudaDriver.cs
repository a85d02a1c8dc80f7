using System.Runtime.InteropServices;

namespace Pcrl.Kernels.Gpu;

/// <summary>What is asked of the CUDA driver directly: whether there is a device, before anything of ILGPU is loaded, and what ILGPU has no call for.</summary>
internal static partial class CudaDriver
{
    private const string Library = "libcuda.so.1";
    private const int MaximumDynamicSharedBytes = 8; // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

    /// <summary>Null if a CUDA device can be used, else the reason why not, as a clause.</summary>
    public static string? WhyUnusable()
    {
        try
        {
            int status = Initialise(0);
            if (status != 0)
                return $"the CUDA driver does not start (error {status})";
            status = GetDeviceCount(out int count);
            return status == 0 && count > 0 ? null : "the CUDA driver has no device";
        }
        catch (DllNotFoundException)
        {
            return "there is no CUDA driver";
        }
        catch (EntryPointNotFoundException)
        {
            return "the CUDA driver is not one";
        }
    }

    /// <summary>Lets a kernel have more than the 48 KiB of shared memory that every block gets. Returns the driver's error, 0 for none.</summary>
    public static int AllowSharedBytes(nint function, int bytes) => SetAttribute(function, MaximumDynamicSharedBytes, bytes);

    [LibraryImport(Library, EntryPoint = "cuFuncSetAttribute")]
    private static partial int SetAttribute(nint function, int attribute, int value);

    [LibraryImport(Library, EntryPoint = "cuInit")]
    private static partial int Initialise(uint flags);

    [LibraryImport(Library, EntryPoint = "cuDeviceGetCount")]
    private static partial int GetDeviceCount(out int count);
}
