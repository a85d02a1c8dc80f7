namespace Pcrl.Kernels.TensorCores;

/// <content>What happens to the sums: residual, ReLU, rounding, and where they are written. The bias is what they began with.</content>
internal sealed partial class TensorKernel
{
    /// <summary>Residual loads under way at once, of 16 bytes a lane: each store ends the freedom to move loads before it, so they go in batches.</summary>
    private int Batch => tile.Threads <= 256 ? 8 : 2; // more threads have fewer registers each

    /// <summary>Eight neighbouring columns of one row that a lane holds: <paramref name="Offset"/> columns after its first ones.</summary>
    private sealed record Share(string[] Values, OutputRow Row, int Offset, string[] Added);

    /// <summary>Where a lane's first columns of a row lie in output and residual, and whether the row is there.</summary>
    private sealed record OutputRow(string Output, string Residual, string Inside);

    private string _hasResidual = "", _column = "";
    private Share[] _shares = [];

    /// <summary>Sets the sums to the bias of their columns.</summary>
    private void Sums()
    {
        _sums = [.. Enumerable.Range(0, RowProducts * ColumnProducts * 4).Select(_ => New("f32"))];
        string biasAt = New("b64");
        Emit($"mad.wide.u32 {biasAt}, {FirstColumn()}, 4, {_bias};");
        for (int eights = 0; eights < tile.PartColumns / 32; eights++)
        {
            string[] bias = [.. Enumerable.Range(0, 8).Select(_ => New("f32"))];
            for (int i = 0; i < 8; i += 4)
                Emit($"ld.global.v4.f32 {{{string.Join(", ", bias.AsSpan(i, 4).ToArray())}}}, [{biasAt}+{eights * 128 + i * 4}];");
            for (int rows = 0; rows < RowProducts * 2; rows++)
                foreach (var (sum, of) in ShareOf(rows, eights).Zip(bias))
                    Emit($"mov.f32 {sum}, {of};");
        }
    }

    /// <summary>First of the columns that a lane holds; others lie 32 apart.</summary>
    private string FirstColumn() => Int("add.u32", Int("mad.lo.u32", _columnTile, $"{tile.Columns}", _partColumn), Int("shl.b32", Int("and.b32", _lane, "3"), "3"));

    /// <summary>Products 4·eights … + 3 hold two neighbouring columns each: see <see cref="TensorTile.Column"/>.</summary>
    private string[] ShareOf(int rows, int eights) =>
        [.. from j in Enumerable.Range(0, 4) from e in Enumerable.Range(0, 2) select _sums[((rows / 2 * ColumnProducts) + eights * 4 + j) * 4 + rows % 2 * 2 + e]];

    /// <summary>Works out where results go and asks for the first residuals; the products may still be under way.</summary>
    private void BeforeResults()
    {
        _hasResidual = New("p");
        Emit($"setp.ne.u64 {_hasResidual}, {_residual}, 0;");
        _column = FirstColumn();
        string row = Int("add.u32", Int("add.u32", _firstRow, _warpRow), Int("shr.u32", _lane, "2"));
        OutputRow[] places = [.. from i in Enumerable.Range(0, RowProducts * 2) select Place(Int("add.u32", row, $"{i / 2 * RowStep + i % 2 * 8}"))];
        _shares = [.. from eights in Enumerable.Range(0, tile.PartColumns / 32)
                      from rows in Enumerable.Range(0, places.Length)
                      select new Share(ShareOf(rows, eights), places[rows], eights * 32, [.. Enumerable.Range(0, wholeStores ? 4 : 0).Select(_ => New("b32"))])];
        LoadResiduals(0);

        OutputRow Place(string outputRow)
        {
            var (pixel, inside) = OutputPlace(outputRow);
            string at = New("b64"), output = New("b64"), residual = New("b64");
            Emit($"mad.wide.u32 {at}, {_column}, 2, {pixel};");
            Emit($"add.s64 {output}, {_output}, {at};");
            Emit($"add.s64 {residual}, {_residual}, {at};");
            return new(output, residual, inside);
        }
    }

    private void Results()
    {
        for (int i = 0; i < _shares.Length; i++)
        {
            if (i % Batch == 0)
                LoadResiduals(i + Batch);
            if (wholeStores)
                StoreEight(_shares[i]);
            else
                for (int v = 0; v < _shares[i].Values.Length; v++)
                    StoreOne(_shares[i], v);
        }
    }

    /// <summary>Number of the first channel of an output row's pixel in bytes, and whether the row is there.</summary>
    private (string Pixel, string Inside) OutputPlace(string row)
    {
        var (image, gridY, gridX) = Place(row);
        string y = Int("mad.lo.u32", gridY, Number(nameof(TensorArguments.StepH)), Number(nameof(TensorArguments.FirstH)));
        string x = Int("mad.lo.u32", gridX, Number(nameof(TensorArguments.StepW)), Number(nameof(TensorArguments.FirstW)));
        string pixel = Int("mad.lo.u32", Int("mad.lo.u32", image, Number(nameof(TensorArguments.OutputH)), y), Number(nameof(TensorArguments.OutputW)), x);
        string bytes = New("b64"), inside = New("p");
        Emit($"mul.wide.u32 {bytes}, {pixel}, {Number(nameof(TensorArguments.OutputPixelBytes))};");
        Emit($"setp.lt.u32 {inside}, {row}, {_rows};");
        return (bytes, inside);
    }

    private void LoadResiduals(int first)
    {
        foreach (var share in wholeStores ? _shares.Skip(first).Take(Batch) : [])
        {
            var (_, added) = Inside(share);
            foreach (string pair in share.Added)
                Emit($"mov.b32 {pair}, 0;");
            Emit($"@{added} ld.global.v4.b32 {{{string.Join(", ", share.Added)}}}, [{share.Row.Residual}+{share.Offset * 2}];");
        }
    }

    /// <summary>Whether a column of a share is in the output, and whether something is added to it.</summary>
    private (string Inside, string Added) Inside(Share share, int v = 0)
    {
        string inside = New("p"), added = New("p");
        Emit($"setp.lt.and.u32 {inside}, {Int("add.u32", _column, $"{share.Offset + v}")}, {_columns}, {share.Row.Inside};");
        Emit($"and.pred {added}, {inside}, {_hasResidual};");
        return (inside, added);
    }

    private void StoreEight(Share share)
    {
        for (int i = 0; i < share.Added.Length; i++)
        {
            string pair = share.Added[i], first = share.Values[2 * i], second = share.Values[2 * i + 1];
            AddHalf(first, Int("shl.b32", pair, "16"));
            AddHalf(second, Int("and.b32", pair, "0xffff0000"));
            Floor(first);
            Floor(second);
            Emit($"cvt.rn.bf16x2.f32 {pair}, {second}, {first};");
        }
        Emit($"@{Inside(share).Inside} st.global.v4.b32 [{share.Row.Output}+{share.Offset * 2}], {{{string.Join(", ", share.Added)}}};");
    }

    private void StoreOne(Share share, int v)
    {
        string half = New("b16"), pair = New("b32"), none = New("b16"), zero = New("b16"), upper = New("b16");
        var (inside, added) = Inside(share, v);
        int bytes = (share.Offset + v) * 2;
        Emit($"mov.b16 {half}, 0;");
        Emit($"mov.b16 {zero}, 0;");
        Emit($"@{added} ld.global.b16 {half}, [{share.Row.Residual}+{bytes}];");
        AddHalf(share.Values[v], Int("mov.b32", $"{{{zero}, {half}}}"));
        Floor(share.Values[v]);
        Emit($"cvt.rn.bf16x2.f32 {pair}, {share.Values[v]}, {share.Values[v]};");
        Emit($"mov.b32 {{{none}, {upper}}}, {pair};");
        Emit($"@{inside} st.global.b16 [{share.Row.Output}+{bytes}], {upper};");
    }

    /// <summary>Adds a bfloat16 that stands in the upper half of a register: it is a float then. Nothing to add is zero.</summary>
    private void AddHalf(string value, string bits)
    {
        string number = New("f32");
        Emit($"mov.b32 {number}, {bits};");
        Emit($"add.f32 {value}, {value}, {number};");
    }

    /// <summary>ReLU, or nothing if the floor is −∞; a NaN stays one.</summary>
    private void Floor(string value) => Emit($"max.NaN.f32 {value}, {value}, {_floor};");
}
