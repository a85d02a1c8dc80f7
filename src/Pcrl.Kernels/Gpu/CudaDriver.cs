using System.Runtime.InteropServices;

namespace Pcrl.Kernels.Gpu;

/// <summary>Asks the CUDA driver whether there is a device, without loading anything else.</summary>
internal static unsafe class CudaDriver
{
    /// <summary>Null if a CUDA device can be used, else the reason why not, as a clause.</summary>
    public static string? WhyUnusable()
    {
        string library = OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1";
        if (!NativeLibrary.TryLoad(library, out nint driver))
            return "there is no CUDA driver";
        if (!NativeLibrary.TryGetExport(driver, "cuInit", out nint initialise) || !NativeLibrary.TryGetExport(driver, "cuDeviceGetCount", out nint getCount))
            return "the CUDA driver is not one";
        int status = ((delegate* unmanaged<uint, int>)initialise)(0);
        if (status != 0)
            return $"the CUDA driver does not start (error {status})";
        int count = 0;
        status = ((delegate* unmanaged<int*, int>)getCount)(&count);
        return status == 0 && count > 0 ? null : "the CUDA driver has no device";
    }
}
