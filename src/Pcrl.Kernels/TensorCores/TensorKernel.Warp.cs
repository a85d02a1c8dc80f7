namespace Pcrl.Kernels.TensorCores;

/// <content>Products of a warp: <c>ldmatrix</c> brings fragments into registers, <c>mma.sync</c> multiplies them.</content>
internal sealed partial class TensorKernel
{
    private string _rowFragments = "", _columnFragments = "", _rowChunk = "", _columnChunk = "";

    private void WarpLoop()
    {
        FragmentAddresses();
        Loop(ahead: tile.Stages - 1, (reading, fill) =>
        {
            Emit($"cp.async.wait_group {tile.Stages - 2};");
            Emit("bar.sync 0;");
            fill();
            Multiply(reading);
        });
    }

    /// <summary>
    /// <c>ldmatrix</c> takes from lane l the address of line l % 8 of its part l / 8. Of 16 rows × 16 values the parts are upper left, lower left,
    /// upper right, lower right, as <c>mma</c> wants them; of 16 columns of weights upper left, upper right, lower left, lower right.
    /// </summary>
    private void FragmentAddresses()
    {
        string line = Int("and.b32", _lane, "7"), part = Int("shr.u32", _lane, "3"), low = Int("and.b32", part, "1"), high = Int("shr.u32", part, "1");
        string row = Int("mad.lo.u32", low, "8", line), column = Int("mad.lo.u32", high, "8", line);
        _rowFragments = Int("mad.lo.u32", Int("add.u32", row, _partRow), $"{LineBytes}", _ring);
        _columnFragments = Int("mad.lo.u32", Int("add.u32", column, _partColumn), $"{LineBytes}", _ring);
        _rowChunk = Int("shl.b32", Int("xor.b32", high, line), "4");
        _columnChunk = Int("shl.b32", Int("xor.b32", low, line), "4");
    }

    private void Multiply(string stage)
    {
        string rows = Int("add.u32", _rowFragments, stage), columns = Int("add.u32", _columnFragments, stage);
        for (int k = 0; k < TensorTile.Depth / 16; k++)
        {
            string rowAddress = Int("add.u32", rows, Int("xor.b32", _rowChunk, $"{k * 32}"));
            string columnAddress = Int("add.u32", columns, Int("xor.b32", _columnChunk, $"{k * 32}"));
            string[][] a = [.. Enumerable.Range(0, RowProducts).Select(i => LoadMatrices($"{rowAddress}+{i * 16 * LineBytes}"))];
            string[][] b = [.. Enumerable.Range(0, ColumnProducts / 2).Select(j => LoadMatrices($"{columnAddress}+{RowBytes + j * 16 * LineBytes}"))];
            for (int i = 0; i < RowProducts; i++)
                for (int j = 0; j < ColumnProducts; j++)
                {
                    string sum = string.Join(", ", _sums.AsSpan((i * ColumnProducts + j) * 4, 4).ToArray());
                    string weights = string.Join(", ", b[j / 2].AsSpan(j % 2 * 2, 2).ToArray());
                    Emit($"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{{sum}}}, {{{string.Join(", ", a[i])}}}, {{{weights}}}, {{{sum}}};");
                }
        }

        string[] LoadMatrices(string address)
        {
            string[] parts = [New("b32"), New("b32"), New("b32"), New("b32")];
            Emit($"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{string.Join(", ", parts)}}}, [{address}];");
            return parts;
        }
    }
}
