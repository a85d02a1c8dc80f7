namespace Pcrl.Kernels.TensorCores;

/// <content>
/// Products of a warpgroup, four warps: <c>wgmma</c> reads both operands from shared memory by itself and goes on while its warps start the next
/// copies. The ring's swizzle is the one that it knows as 128 bytes wide.
/// </content>
internal sealed partial class TensorKernel
{
    /// <summary>
    /// What a descriptor holds beside the address: swizzle of 128 bytes (1 in bits 62…), 1024 bytes from eight lines to the next (in 16s, bits 32…);
    /// the offset in bits 16… means nothing with this swizzle.
    /// </summary>
    private const string Descriptor = "0x4000004000010000";

    private void WarpgroupLoop()
    {
        string rows = Int("mad.lo.u32", _partRow, $"{LineBytes}", _ring), columns = Int("mad.lo.u32", _partColumn, $"{LineBytes}", _ring), add = New("p");
        Emit($"setp.ge.u32 {add}, 1, 1;");
        // Of the stages one is being multiplied while another is read by the products before; the copies ahead have the rest.
        Loop(ahead: tile.Stages - 2, (reading, fill) =>
        {
            Emit($"cp.async.wait_group {tile.Stages - 3};");
            if (!wholeChunks)
                Emit("fence.proxy.async;"); // values that threads wrote are not ordered with what wgmma reads; what cp.async wrote is
            Emit("wgmma.wait_group.sync.aligned 1;"); // the products of two steps ago have read their stage: it is filled next
            Emit("bar.sync 0;");
            string left = At(Int("add.u32", rows, reading)), right = At(Int("add.u32", Int("add.u32", columns, reading), $"{RowBytes}"));
            Emit("wgmma.fence.sync.aligned;");
            for (int k = 0; k < TensorTile.Depth / 16; k++)
                for (int i = 0; i < RowProducts; i++)
                {
                    string sums = string.Join(", ", _sums.AsSpan(i * ColumnProducts * 4, ColumnProducts * 4).ToArray());
                    string a = Further(left, i * 64 * LineBytes + k * 32), b = Further(right, k * 32);
                    Emit($"wgmma.mma_async.sync.aligned.m64n{tile.PartColumns}k16.f32.bf16.bf16 {{{sums}}}, {a}, {b}, {add}, 1, 1, 0, 0;");
                }
            Emit("wgmma.commit_group.sync.aligned;");
            fill();
        });

        string At(string address)
        {
            string descriptor = New("b64");
            Emit($"mad.wide.u32 {descriptor}, {Int("shr.u32", address, "4")}, 1, {Descriptor};");
            return descriptor;
        }

        string Further(string descriptor, int bytes)
        {
            string further = New("b64");
            Emit($"add.s64 {further}, {descriptor}, {bytes / 16};");
            return further;
        }
    }
}
