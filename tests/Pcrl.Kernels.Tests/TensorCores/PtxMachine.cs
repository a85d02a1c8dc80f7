using System.Buffers.Binary;
using System.Globalization;
using System.Text.RegularExpressions;

namespace Pcrl.Kernels.Tests.TensorCores;

/// <summary>
/// Runs PTX without a card: the instructions that the tensor-core kernel uses, and no others. It is stricter than a card. Reading or
/// writing outside an allocation, an access that is not aligned, a register read before it is written and a branch that divides a warp end the
/// test; shared memory begins as NaN; warps run in a random order between barriers; and an asynchronous copy arrives either at once or as late as its
/// thread's wait allows, so that a missing wait or barrier gives wrong results in one of the two. Products of warpgroups are done as late as the waits
/// allow in the first case and at once in the second, and they see what a thread stored in shared memory only after its fence; what cp.async brought they see (NVIDIA's own library relies on that).
/// </summary>
/// <param name="ptx">The module.</param>
/// <param name="sharedBytes">Dynamic shared memory of a block.</param>
/// <param name="copiesArriveLate">As late as the waits allow, in place of at once.</param>
internal sealed partial class PtxMachine(string ptx, int sharedBytes, bool copiesArriveLate)
{
    private const int WarpSize = 32;
    private readonly List<(ulong Address, byte[] Bytes)> _global = [];
    private readonly Random _random = new(1);
    private readonly Dictionary<string, int> _slots = [];
    private byte[] _parameters = [];
    private byte[] _shared = [];
    private byte[] _fenced = []; // shared memory as wgmma sees it

    /// <summary>Puts memory of the host where kernels see it; they read and write it in place.</summary>
    public nint Map(byte[] bytes)
    {
        ulong address = _global.Count == 0 ? 0x7_0000_0000 : (_global[^1].Address + (ulong)_global[^1].Bytes.Length + 0x1FF) & ~0xFFUL;
        _global.Add((address, bytes));
        return (nint)address;
    }

    /// <summary>Runs all blocks.</summary>
    public void Launch(int blocks, int threads, byte[] parameters)
    {
        _parameters = parameters;
        var program = Parse();
        for (int block = 0; block < blocks; block++)
        {
            _shared = new byte[sharedBytes];
            Array.Fill(_shared, (byte)0xFF);
            _fenced = (byte[])_shared.Clone();
            Warp[] warps = [.. Enumerable.Range(0, threads / WarpSize).Select(w => new Warp(w, block, _slots.Count))];
            while (warps.Any(w => !w.Done))
            {
                _random.Shuffle(warps);
                foreach (var warp in warps.Where(w => !w.Done))
                    RunToBarrier(program, warp);
                if (warps.Select(w => w.Done ? -1 : w.Next).Distinct().Count() != 1)
                    throw new InvalidOperationException("the warps of a block wait at different barriers");
            }
        }
    }

    private static void RunToBarrier(Instruction[] program, Warp warp)
    {
        while (!warp.Done)
        {
            var instruction = program[warp.Next++];
            if (instruction.Operation == "bar.sync")
                return;
            bool[] active = [.. warp.Lanes.Select(l => instruction.Guard is not { } guard || (l.Read(guard) != 0) != instruction.Unless)];
            if (instruction.Together is { } together)
            {
                if (active.Contains(false) && active.Contains(true))
                    throw new InvalidOperationException($"{instruction.Operation} divides a warp");
                if (active[0])
                    together(warp);
                continue;
            }
            for (int lane = 0; lane < WarpSize; lane++)
                if (active[lane])
                    instruction.Alone!(warp.Lanes[lane]);
        }
    }

    // ---- memory ----

    private Span<byte> Global(ulong address, int bytes)
    {
        if (address % (ulong)bytes != 0)
            throw new InvalidOperationException($"{bytes} bytes at {address:x}: not aligned");
        foreach (var (start, memory) in _global)
            if (address >= start && address + (ulong)bytes <= start + (ulong)memory.Length)
                return memory.AsSpan((int)(address - start), bytes);
        throw new InvalidOperationException($"{bytes} bytes at {address:x}: outside of every allocation");
    }

    private Span<byte> Shared(ulong address, int bytes) =>
        address % (ulong)bytes == 0 ? _shared.AsSpan((int)address, bytes) : throw new InvalidOperationException($"shared memory at {address}: not aligned");

    // ---- instructions ----

    private Instruction[] Parse()
    {
        var program = new List<Instruction>();
        var labels = new Dictionary<string, int>();
        var lines = ptx[(ptx.IndexOf('{', StringComparison.Ordinal) + 1)..].Split('\n').Select(l => l.Trim()).Where(l => l.Length > 0 && l != "}" && !l.StartsWith(".reg", StringComparison.Ordinal)).ToList();
        foreach (string line in lines)
            if (line.EndsWith(':'))
                labels[line[..^1]] = program.Count;
            else
                program.Add(Decode(line, labels));
        return [.. program];
    }

    private Instruction Decode(string line, Dictionary<string, int> labels)
    {
        var match = Line().Match(line);
        if (!match.Success)
            throw new NotSupportedException(line);
        string operation = match.Groups["op"].Value;
        string[] operands = [.. Operand().Matches(match.Groups["rest"].Value).Select(m => m.Value)];
        var instruction = new Instruction
        {
            Operation = operation,
            Guard = match.Groups["guard"].Success ? Slot(match.Groups["guard"].Value) : null,
            Unless = match.Groups["not"].Success,
        };
        switch (operation)
        {
            case "bar.sync": break;
            case "ret": instruction.Together = w => w.Done = true; break;
            case "bra": instruction.Together = w => w.Next = labels[operands[0]]; break;
            case "cp.async.commit_group": instruction.Alone = l => l.Groups.Add([]); break;
            case "cp.async.wait_group": instruction.Alone = Wait(int.Parse(operands[0], CultureInfo.InvariantCulture)); break;
            case "cp.async.cg.shared.global": instruction.Alone = CopyAsync(operands); break;
            case "fence.proxy.async": instruction.Alone = Fence; break;
            case "wgmma.fence.sync.aligned": instruction.Together = w => w.MayMultiply = true; break;
            case "wgmma.commit_group.sync.aligned":
                instruction.Together = w =>
                {
                    w.Groups.Add([]);
                    w.MayMultiply = false;
                };
                break;
            case "wgmma.wait_group.sync.aligned": instruction.Together = WaitForProducts(int.Parse(operands[0], CultureInfo.InvariantCulture)); break;
            case var _ when operation.StartsWith("wgmma.mma_async.sync.aligned.m64n", StringComparison.Ordinal):
                Assert.EndsWith("k16.f32.bf16.bf16", operation, StringComparison.Ordinal);
                Assert.Equal(["1", "1", "0", "0"], operands[4..]); // nothing negated, nothing transposed
                instruction.Together = MultiplyAsync(Slots(operands[0]), Value(operands[1]), Value(operands[2]), Value(operands[3]));
                break;
            case "ldmatrix.sync.aligned.m8n8.x4.shared.b16": instruction.Together = LoadMatrices(Slots(operands[0]), Address(operands[1])); break;
            case "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32": instruction.Together = Multiply(Slots(operands[0]), Slots(operands[1]), Slots(operands[2]), Slots(operands[3])); break;
            case "ld.param.u64" or "ld.param.u32" or "ld.param.f32": instruction.Alone = LoadParameter(operation, operands); break;
            case "ld.global.v4.b32" or "ld.global.v4.f32" or "ld.global.b16" or "st.global.v4.b32" or "st.global.b16" or "st.shared.v4.b32":
                instruction.Alone = Access(operation, operands);
                break;
            case "mov.b32" when operands[0].StartsWith('{'):
                {
                    int[] halves = Slots(operands[0]);
                    var whole = Value(operands[1]);
                    instruction.Alone = l => (l[halves[0]], l[halves[1]]) = (whole(l) & 0xFFFF, whole(l) >> 16);
                    break;
                }
            case "mov.b32" when operands[1].StartsWith('{'):
                {
                    int[] halves = Slots(operands[1]);
                    int target = Slot(operands[0]);
                    instruction.Alone = l => l[target] = l.Read(halves[0]) | l.Read(halves[1]) << 16;
                    break;
                }
            default:
                {
                    var compute = Arithmetic(operation);
                    int target = Slot(operands[0]);
                    Func<Lane, ulong>[] values = [.. operands.Skip(1).Select(Value)];
                    instruction.Alone = l => l[target] = compute(values[0](l), values.Length > 1 ? values[1](l) : 0, values.Length > 2 ? values[2](l) : 0);
                    break;
                }
        }
        return instruction;
    }

    private static Func<ulong, ulong, ulong, ulong> Arithmetic(string operation) => operation switch
    {
        "mov.u32" or "mov.b32" or "mov.b16" or "mov.f32" => (a, _, _) => a,
        "and.b32" => (a, b, _) => a & b,
        "xor.b32" => (a, b, _) => a ^ b,
        "shl.b32" => (a, b, _) => (uint)(a << (int)b),
        "shr.u32" => (a, b, _) => (uint)a >> (int)b,
        "add.u32" => (a, b, _) => (uint)(a + b),
        "sub.u32" => (a, b, _) => (uint)(a - b),
        "mul.lo.u32" => (a, b, _) => (uint)a * (uint)b,
        "mad.lo.u32" => (a, b, c) => (uint)a * (uint)b + (uint)c,
        "div.u32" => (a, b, _) => (uint)a / (uint)b,
        "rem.u32" => (a, b, _) => (uint)a % (uint)b,
        "mul.wide.u32" => (a, b, _) => (ulong)(uint)a * (uint)b,
        "mad.wide.u32" => (a, b, c) => (ulong)(uint)a * (uint)b + c,
        "shr.u64" => (a, b, _) => a >> (int)b,
        "add.s64" => (a, b, _) => a + b,
        "cvt.u32.u64" => (a, _, _) => (uint)a,
        "cvt.s64.s32" => (a, _, _) => (ulong)(long)(int)(uint)a,
        "selp.b32" => (a, b, p) => p != 0 ? a : b,
        "setp.lt.u32" => (a, b, _) => (uint)a < (uint)b ? 1u : 0,
        "setp.ge.u32" => (a, b, _) => (uint)a >= (uint)b ? 1u : 0,
        "setp.ne.u64" => (a, b, _) => a != b ? 1u : 0,
        "setp.lt.and.u32" => (a, b, p) => (uint)a < (uint)b && p != 0 ? 1u : 0,
        "and.pred" => (a, b, _) => a & b,
        "add.f32" => (a, b, _) => Bits(Float(a) + Float(b)),
        "max.NaN.f32" => (a, b, _) => Bits(MathF.Max(Float(a), Float(b))), // .NET's too gives the NaN
        "cvt.rn.bf16x2.f32" => (a, b, _) => (ulong)Kernels.TensorCores.Bfloat16.Round(Float(a)) << 16 | Kernels.TensorCores.Bfloat16.Round(Float(b)),
        _ => throw new NotSupportedException(operation),
    };

    private Action<Lane> Access(string operation, string[] operands)
    {
        bool loads = operation.StartsWith("ld", StringComparison.Ordinal), shared = operation.Contains("shared"), whole = operation.Contains("v4");
        int[] values = Slots(operands[loads ? 0 : 1]);
        var address = Address(operands[loads ? 1 : 0]);
        int size = whole ? 4 : 2;
        return lane =>
        {
            var memory = shared ? Shared(address(lane), size * values.Length) : Global(address(lane), size * values.Length);
            for (int i = 0; i < values.Length; i++)
            {
                var at = memory.Slice(i * size, size);
                if (shared && !loads)
                    lane.Written.Add(((int)address(lane), size * values.Length));
                if (loads)
                    lane[values[i]] = whole ? BinaryPrimitives.ReadUInt32LittleEndian(at) : BinaryPrimitives.ReadUInt16LittleEndian(at);
                else if (whole)
                    BinaryPrimitives.WriteUInt32LittleEndian(at, (uint)lane.Read(values[i]));
                else
                    BinaryPrimitives.WriteUInt16LittleEndian(at, (ushort)lane.Read(values[i]));
            }
        };
    }

    private Action<Lane> LoadParameter(string operation, string[] operands)
    {
        int target = Slot(operands[0]), offset = int.Parse(operands[1].Trim('[', ']').Split('+')[1], CultureInfo.InvariantCulture);
        return operation.EndsWith("64", StringComparison.Ordinal)
            ? l => l[target] = BinaryPrimitives.ReadUInt64LittleEndian(_parameters.AsSpan(offset))
            : l => l[target] = BinaryPrimitives.ReadUInt32LittleEndian(_parameters.AsSpan(offset));
    }

    private Action<Lane> CopyAsync(string[] operands)
    {
        var to = Address(operands[0]);
        var from = Address(operands[1]);
        var bytes = operands.Length > 3 ? Value(operands[3]) : _ => 16;
        return lane =>
        {
            ulong target = to(lane), source = from(lane);
            int count = (int)bytes(lane);
            if (!copiesArriveLate)
                Copy();
            lane.Groups[^1].Add(copiesArriveLate ? Copy : () => { });

            void Copy()
            {
                var memory = Shared(target, 16);
                memory.Clear();
                if (count > 0)
                    Global(source, count).CopyTo(memory);
                memory.CopyTo(_fenced.AsSpan((int)target));
            }
        };
    }

    private static Action<Lane> Wait(int pending) => lane =>
    {
        // The last list is the group that is still open.
        for (int group = 0; group < lane.Groups.Count - 1 - pending; group++)
        {
            lane.Groups[group].ForEach(copy => copy());
            lane.Groups[group].Clear();
        }
    };

    private void Fence(Lane lane)
    {
        foreach (var (at, bytes) in lane.Written)
            _shared.AsSpan(at, bytes).CopyTo(_fenced.AsSpan(at));
        lane.Written.Clear();
    }

    private static Action<Warp> WaitForProducts(int pending) => warp =>
    {
        for (int group = 0; group < warp.Groups.Count - 1 - pending; group++)
        {
            warp.Groups[group].ForEach(product => product());
            warp.Groups[group].Clear();
        }
    };

    /// <summary>
    /// A warp's 16 of the 64 rows. A descriptor gives the address in units of 16 bytes, the distance of eight lines, and that chunks of 16 bytes are
    /// exchanged within 128 by the bits of the address above them.
    /// </summary>
    private Action<Warp> MultiplyAsync(int[] sums, Func<Lane, ulong> a, Func<Lane, ulong> b, Func<Lane, ulong> adds) => warp =>
    {
        if (!warp.MayMultiply)
            throw new InvalidOperationException("products without a fence before them");
        ulong left = warp.Lanes[0].Uniform(a, warp), right = warp.Lanes[0].Uniform(b, warp);
        bool add = warp.Lanes[0].Uniform(adds, warp) != 0;
        if (copiesArriveLate)
            Multiply();
        else
            warp.Groups[^1].Add(Multiply);

        void Multiply()
        {
            for (int lane = 0; lane < WarpSize; lane++)
                for (int i = 0; i < sums.Length; i++)
                {
                    int row = warp.Index % 4 * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
                    double sum = add ? Float(warp.Lanes[lane].Read(sums[i])) : 0;
                    for (int k = 0; k < 16; k++)
                        sum += (double)Element(left, row, k) * Element(right, column, k);
                    warp.Lanes[lane][sums[i]] = Bits((float)sum);
                }
        }

        float Element(ulong descriptor, int line, int k)
        {
            Assert.Equal(1u, descriptor >> 62); // chunks exchanged within 128 bytes
            int lines = (int)(descriptor >> 32 & 0x3FFF) << 4, at = ((int)(descriptor & 0x3FFF) << 4) + line / 8 * lines + line % 8 * 128 + k * 2;
            at ^= (at >> 7 & 7) << 4;
            return Kernels.TensorCores.Bfloat16.ToFloat(BinaryPrimitives.ReadUInt16LittleEndian(_fenced.AsSpan(at)));
        }
    };

    private Action<Warp> LoadMatrices(int[] targets, Func<Lane, ulong> address) => warp =>
    {
        for (int part = 0; part < 4; part++)
            for (int lane = 0; lane < WarpSize; lane++)
            {
                // Lane 4·line + pair gets values 2·pair and 2·pair + 1 of the line whose address lane 8·part + line gave.
                var line = Shared(address(warp.Lanes[8 * part + lane / 4]), 16);
                warp.Lanes[lane][targets[part]] = BinaryPrimitives.ReadUInt32LittleEndian(line[(lane % 4 * 4)..]);
            }
    };

    /// <summary>The layout of fragments as the PTX manual gives it for m16n8k16 with 16-bit operands.</summary>
    private static Action<Warp> Multiply(int[] d, int[] a, int[] b, int[] c) => warp =>
    {
        var left = new float[16, 16];
        var right = new float[16, 8];
        for (int lane = 0; lane < WarpSize; lane++)
        {
            int group = lane / 4, inGroup = lane % 4;
            for (int i = 0; i < 8; i++)
            {
                int row = group + (i / 2 % 2 == 0 ? 0 : 8), column = inGroup * 2 + i % 2 + (i < 4 ? 0 : 8);
                left[row, column] = Half(warp.Lanes[lane].Read(a[i / 2]), i % 2);
            }
            for (int i = 0; i < 4; i++)
                right[inGroup * 2 + i % 2 + (i < 2 ? 0 : 8), group] = Half(warp.Lanes[lane].Read(b[i / 2]), i % 2);
        }
        for (int lane = 0; lane < WarpSize; lane++)
            for (int i = 0; i < 4; i++)
            {
                int row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + i % 2;
                double sum = Float(warp.Lanes[lane].Read(c[i]));
                for (int k = 0; k < 16; k++)
                    sum += (double)left[row, k] * right[k, column];
                warp.Lanes[lane][d[i]] = Bits((float)sum);
            }

        static float Half(ulong pair, int which) => Kernels.TensorCores.Bfloat16.ToFloat((ushort)(pair >> (16 * which)));
    };

    // ---- operands ----

    private Func<Lane, ulong> Value(string operand)
    {
        if (operand is "%tid.x")
            return l => (ulong)l.Thread;
        if (operand is "%ctaid.x")
            return l => (ulong)l.Block;
        if (operand == "ring")
            return _ => 0;
        if (operand.StartsWith('%'))
        {
            int slot = Slot(operand);
            return l => l.Read(slot);
        }
        ulong constant = operand.StartsWith("0f", StringComparison.Ordinal) || operand.StartsWith("0x", StringComparison.Ordinal)
            ? Convert.ToUInt64(operand[2..], 16)
            : ulong.Parse(operand, CultureInfo.InvariantCulture);
        return _ => constant;
    }

    private Func<Lane, ulong> Address(string operand)
    {
        string[] parts = operand.Trim('[', ']').Split('+');
        var start = Value(parts[0]);
        ulong offset = parts.Length > 1 ? ulong.Parse(parts[1], CultureInfo.InvariantCulture) : 0;
        return l => start(l) + offset;
    }

    private int Slot(string register) => _slots.TryGetValue(register, out int slot) ? slot : _slots[register] = _slots.Count;

    private int[] Slots(string operand) => [.. operand.Trim('{', '}').Split(',').Select(o => Slot(o.Trim()))];

    private static float Float(ulong bits) => BitConverter.UInt32BitsToSingle((uint)bits);

    private static ulong Bits(float value) => BitConverter.SingleToUInt32Bits(value);

    [GeneratedRegex(@"^(@(?<not>!)?(?<guard>%p\d+) )?(?<op>[a-zA-Z0-9_.]+)\s*(?<rest>.*);$")]
    private static partial Regex Line();

    [GeneratedRegex(@"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")]
    private static partial Regex Operand();

    private sealed class Instruction
    {
        public required string Operation { get; init; }
        public int? Guard { get; init; }
        public bool Unless { get; init; }
        public Action<Lane>? Alone { get; set; }
        public Action<Warp>? Together { get; set; }
    }

    private sealed class Warp(int index, int block, int registers)
    {
        public int Index => index;
        public List<List<Action>> Groups { get; } = [[]]; // products
        public bool MayMultiply { get; set; }
        public Lane[] Lanes { get; } = [.. Enumerable.Range(0, WarpSize).Select(l => new Lane(index * WarpSize + l, block, registers))];
        public int Next { get; set; }
        public bool Done { get; set; }
    }

    private sealed class Lane(int thread, int block, int registers)
    {
        private readonly ulong[] _registers = new ulong[registers];
        private readonly bool[] _written = new bool[registers];

        public int Thread => thread;
        public int Block => block;
        public List<List<Action>> Groups { get; } = [[]]; // copies
        public List<(int At, int Bytes)> Written { get; } = []; // in shared memory since the last fence

        /// <summary>A value that all lanes of the warp must agree on.</summary>
        public ulong Uniform(Func<Lane, ulong> value, Warp warp) => Assert.Single(warp.Lanes.Select(value).Distinct());

        public ulong this[int slot]
        {
            set => (_registers[slot], _written[slot]) = (value, true);
        }

        public ulong Read(int slot) => _written[slot] ? _registers[slot] : throw new InvalidOperationException("a register is read before it is written");
    }
}
