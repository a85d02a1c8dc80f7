namespace Pcrl.Kernels.Cpu;

/// <summary>
/// A layer on the CPU. All workers share out the parts of a run; in a lane one worker does them all, and other lanes may be in the same layer.
/// So what a run reads and writes is noted for each worker.
/// </summary>
internal abstract unsafe class CpuLayer : Layer
{
    private readonly Call[] _calls; // one per worker

    protected CpuLayer(CpuDevice device, Operator op, Shape input)
        : base(device, op, input)
    {
        Cpu = device;
        _calls = new Call[device.Team.Workers];
    }

    /// <summary>The device it runs on.</summary>
    protected CpuDevice Cpu { get; }

    private protected sealed override void Execute(Tensor input, Tensor output, Tensor? residual)
    {
        var call = new Call { Input = ((CpuTensor)input).Data, Output = ((CpuTensor)output).Data, Residual = residual is CpuTensor added ? added.Data : null };
        if (Cpu.Team.Worker >= 0)
            Execute(call);
        else
            lock (Cpu.Team.Turn) // scratch must stay this layer's until it ends
                Execute(call);
    }

    private protected abstract void Execute(Call call);

    /// <summary>Calls <paramref name="work"/>(part, worker) once for every part; there <see cref="CallOf"/> gives the call.</summary>
    private protected void Share(int parts, Action<int, int> work, in Call call)
    {
        if (Cpu.Team.Worker is >= 0 and var lane)
            _calls[lane] = call;
        else
            _calls.AsSpan(0, Cpu.Team.Size).Fill(call); // guests may be in their own runs of this layer
        Cpu.Team.Run(parts, work);
    }

    /// <summary>What the run that a worker is in reads and writes.</summary>
    private protected ref readonly Call CallOf(int worker) => ref _calls[worker];

    /// <summary>What one run reads and writes.</summary>
    private protected struct Call
    {
        public float* Input, Output;

        /// <summary>Or null.</summary>
        public float* Residual;

        /// <summary>What the layer itself makes of the input first, in scratch that its workers share; or null.</summary>
        public float* Prepared;
    }
}
