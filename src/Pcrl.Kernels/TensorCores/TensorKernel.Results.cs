namespace Pcrl.Kernels.TensorCores;

/// <content>What happens to the sums: bias, residual, ReLU, rounding, and where they are written.</content>
internal sealed partial class TensorKernel
{
    private void Results()
    {
        string group = Int("shr.u32", _lane, "2"), quarter = Int("and.b32", _lane, "3"), hasResidual = New("p");
        Emit($"setp.ne.u64 {hasResidual}, {_residual}, 0;");
        string column = Int("add.u32", Int("mad.lo.u32", _columnTile, $"{tile.Columns}", _partColumn), Int("shl.b32", quarter, "3"));
        string row = Int("add.u32", Int("add.u32", _firstRow, _warpRow), group);
        (string Pixel, string Inside)[] places = [.. from i in Enumerable.Range(0, RowProducts * 2) select OutputPlace(Int("add.u32", row, $"{i / 2 * RowStep + i % 2 * 8}"))];
        for (int eights = 0; eights < tile.PartColumns / 32; eights++)
        {
            string first = Int("add.u32", column, $"{eights * 32}"), biasAt = New("b64");
            Emit($"mad.wide.u32 {biasAt}, {first}, 4, {_bias};");
            string[] bias = [.. Enumerable.Range(0, 8).Select(_ => New("f32"))];
            for (int i = 0; i < 8; i += 4)
                Emit($"ld.global.v4.f32 {{{string.Join(", ", bias.AsSpan(i, 4).ToArray())}}}, [{biasAt}+{i * 4}];");
            for (int i = 0; i < places.Length; i++)
            {
                // Products 4·eights … + 3 hold two neighbouring columns each: see TensorTile.Column.
                string[] values = [.. from j in Enumerable.Range(0, 4)
                                      from e in Enumerable.Range(0, 2)
                                      select _sums[((i / 2 * ColumnProducts) + eights * 4 + j) * 4 + i % 2 * 2 + e]];
                for (int v = 0; v < 8; v++)
                    Emit($"add.f32 {values[v]}, {values[v]}, {bias[v]};");
                Store(values, places[i].Pixel, places[i].Inside, first, hasResidual);
            }
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

    private void Store(string[] values, string pixel, string rowInside, string column, string hasResidual)
    {
        string at = New("b64"), output = New("b64"), residual = New("b64");
        Emit($"mad.wide.u32 {at}, {column}, 2, {pixel};");
        Emit($"add.s64 {output}, {_output}, {at};");
        Emit($"add.s64 {residual}, {_residual}, {at};");
        int width = wholeStores ? 8 : 1;
        for (int v = 0; v < values.Length; v += width)
        {
            string inside = New("p"), added = New("p");
            Emit($"setp.lt.and.u32 {inside}, {(v == 0 ? column : Int("add.u32", column, $"{v}"))}, {_columns}, {rowInside};");
            Emit($"and.pred {added}, {inside}, {hasResidual};");
            if (wholeStores)
                StoreEight(values, output, residual, inside, added);
            else
                StoreOne(values[v], $"{output}+{v * 2}", $"{residual}+{v * 2}", inside, added);
        }
    }

    private void StoreEight(string[] values, string output, string residual, string inside, string added)
    {
        string[] pairs = [.. Enumerable.Range(0, 4).Select(_ => Int("mov.b32", "0"))];
        Emit($"@{added} ld.global.v4.b32 {{{string.Join(", ", pairs)}}}, [{residual}];");
        for (int i = 0; i < pairs.Length; i++)
        {
            AddHalf(values[2 * i], Int("shl.b32", pairs[i], "16"), added);
            AddHalf(values[2 * i + 1], Int("and.b32", pairs[i], "0xffff0000"), added);
            Floor(values[2 * i]);
            Floor(values[2 * i + 1]);
            Emit($"cvt.rn.bf16x2.f32 {pairs[i]}, {values[2 * i + 1]}, {values[2 * i]};");
        }
        Emit($"@{inside} st.global.v4.b32 [{output}], {{{string.Join(", ", pairs)}}};");
    }

    private void StoreOne(string value, string output, string residual, string inside, string added)
    {
        string half = New("b16"), pair = New("b32"), none = New("b16"), zero = New("b16"), upper = New("b16");
        Emit($"mov.b16 {half}, 0;");
        Emit($"mov.b16 {zero}, 0;");
        Emit($"@{added} ld.global.b16 {half}, [{residual}];");
        AddHalf(value, Int("mov.b32", $"{{{zero}, {half}}}"), added);
        Floor(value);
        Emit($"cvt.rn.bf16x2.f32 {pair}, {value}, {value};");
        Emit($"mov.b32 {{{none}, {upper}}}, {pair};");
        Emit($"@{inside} st.global.b16 [{output}], {upper};");
    }

    /// <summary>Adds a bfloat16 that stands in the upper half of a register: it is a float then.</summary>
    private void AddHalf(string value, string bits, string added)
    {
        string number = New("f32");
        Emit($"mov.b32 {number}, {bits};");
        Emit($"@{added} add.f32 {value}, {value}, {number};");
    }

    /// <summary>ReLU, or nothing if the floor is −∞; a NaN stays one.</summary>
    private void Floor(string value) => Emit($"max.NaN.f32 {value}, {value}, {_floor};");
}
