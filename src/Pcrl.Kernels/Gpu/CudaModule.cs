using System.Runtime.InteropServices;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace Pcrl.Kernels.Gpu;

/// <summary>A kernel given to the CUDA driver as PTX, in the context and the stream of an accelerator.</summary>
internal sealed unsafe class CudaModule : SafeHandle
{
    private readonly CudaAccelerator _accelerator;
    private readonly nint _function;
    private readonly int _threads, _sharedBytes;

    /// <param name="accelerator">Where it runs; it must outlive the module.</param>
    /// <param name="ptx">The module.</param>
    /// <param name="name">The kernel in it.</param>
    /// <param name="threads">Threads of a block.</param>
    /// <param name="sharedBytes">Dynamic shared memory of a block.</param>
    /// <exception cref="CudaException">The driver does not take it.</exception>
    public CudaModule(CudaAccelerator accelerator, string ptx, string name, int threads, int sharedBytes)
        : base(0, ownsHandle: true)
    {
        (_accelerator, _threads, _sharedBytes) = (accelerator, threads, sharedBytes);
        using var context = accelerator.BindScoped();
        var status = CudaAPI.CurrentAPI.LoadModule(out handle, ptx, out string? log);
        if (status != CudaError.CUDA_SUCCESS)
            throw new CudaException($"the driver does not take a kernel ({status}): {log}");
        CudaException.ThrowIfFailed(CudaAPI.CurrentAPI.GetModuleFunction(out _function, handle, name));
        CudaException.ThrowIfFailed((CudaError)CudaDriver.AllowSharedBytes(_function, sharedBytes));
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>Queues the kernel; returns before it has run.</summary>
    /// <typeparam name="T">Its one argument.</typeparam>
    /// <exception cref="CudaException">The launch fails, or something that ran before has.</exception>
    public void Launch<T>(int blocks, T arguments)
        where T : unmanaged
    {
        using var context = _accelerator.BindScoped();
        void* argument = &arguments; // copied by the call
        CudaException.ThrowIfFailed(CudaAPI.CurrentAPI.LaunchKernel(_function, blocks, 1, 1, _threads, 1, 1, _sharedBytes,
            ((CudaStream)_accelerator.DefaultStream).StreamPtr, (nint)(&argument), 0));
    }

    protected override bool ReleaseHandle()
    {
        using var context = _accelerator.BindScoped();
        return CudaAPI.CurrentAPI.DestroyModule(handle) == CudaError.CUDA_SUCCESS;
    }
}
