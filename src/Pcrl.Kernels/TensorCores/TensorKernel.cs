namespace Pcrl.Kernels.TensorCores;

/// <summary>
/// Writes the tensor-core kernel as PTX: the matrix product of gathered input rows [M, K] with weights [K, N] in bfloat16, summed in fp32, then
/// bias, residual and ReLU. <c>cp.async</c> fills a ring of stages; a step waits for its own stage only. The products are done by
/// <c>mma.sync.m16n8k16</c> from compute capability 8.0 on, or by <c>wgmma</c>, which only Hopper (9.0) has, for tiles that say so.
/// </summary>
/// <param name="tile">Sizes.</param>
/// <param name="wholeChunks">Input channels come in eights: a chunk of a row is one copy. Else every value is looked up by itself.</param>
/// <param name="wholeStores">Output channels come in eights: a lane writes 16 bytes at once.</param>
internal sealed partial class TensorKernel(TensorTile tile, bool wholeChunks, bool wholeStores) : PtxText
{
    /// <summary>Name of the kernel in its module.</summary>
    public const string Name = "product";

    private const int LineBytes = TensorTile.LineBytes;

    /// <summary>Rows from one product of a warp to the next: a warpgroup's four warps take 16 of 64 each.</summary>
    private int RowStep => tile.Warpgroups ? 64 : 16;

    private int RowProducts => tile.PartRows / RowStep;

    private int ColumnProducts => tile.PartColumns / 8;

    private int RowBytes => tile.Rows * LineBytes;

    /// <summary>The whole module.</summary>
    public static string Write(TensorTile tile, bool wholeChunks, bool wholeStores) => new TensorKernel(tile, wholeChunks, wholeStores).Write();

    private string Write()
    {
        Arguments();
        Places();
        if (wholeChunks)
            ChunkRows();
        else
            ValueRow();
        Sums();
        if (tile.Warpgroups)
            WarpgroupLoop();
        else
            WarpLoop();
        BeforeResults();
        if (tile.Warpgroups)
            Emit("wgmma.wait_group.sync.aligned 0;");
        Results();
        Emit("ret;");
        return $$"""
            .version {{(tile.Warpgroups ? "8.0" : "7.0")}}
            .target {{(tile.Warpgroups ? "sm_90a" : "sm_80")}}
            .address_size 64
            .extern .shared .align 1024 .b8 ring[];
            .visible .entry {{Name}}(.param .align 8 .b8 a[{{TensorArguments.Size}}])
            .maxntid {{tile.Threads}}, 1, 1
            .minnctapersm {{(wholeChunks ? tile.BlocksTogether : 1)}}
            {
            {{Body()}}
            }
            """ + "\n"; // the driver wants the last line ended
    }

    // ---- arguments and places ----

    private string _input = "", _output = "", _residual = "", _table = "", _weight = "", _bias = "", _floor = "";
    private string _rows = "", _steps = "", _columns = "";
    private string _lane = "", _partRow = "", _partColumn = "", _warpRow = "", _thread = "", _firstRow = "", _columnTile = "", _ring = "";

    private void Arguments()
    {
        _input = Pointer(nameof(TensorArguments.Input));
        _output = Pointer(nameof(TensorArguments.Output));
        _residual = Pointer(nameof(TensorArguments.Residual));
        _table = Pointer(nameof(TensorArguments.Table));
        _weight = Pointer(nameof(TensorArguments.Weight));
        _bias = Pointer(nameof(TensorArguments.Bias));
        _rows = Number(nameof(TensorArguments.Rows));
        _steps = Number(nameof(TensorArguments.Steps));
        _columns = Number(nameof(TensorArguments.Columns));
        _floor = New("f32");
        Emit($"ld.param.f32 {_floor}, [a+{TensorArguments.Offset(nameof(TensorArguments.Floor))}];");
    }

    private void Places()
    {
        _thread = Int("mov.u32", "%tid.x");
        _lane = Int("and.b32", _thread, "31");
        string warp = Int("shr.u32", _thread, "5"), block = Int("mov.u32", "%ctaid.x"), columnTiles = Number(nameof(TensorArguments.ColumnTiles));
        // Neighbouring blocks take the same rows: these are read from the cache then.
        string rowTile = Int("div.u32", block, columnTiles);
        _columnTile = Int("rem.u32", block, columnTiles);
        _firstRow = Int("mul.lo.u32", rowTile, $"{tile.Rows}");
        int across = tile.Columns / tile.PartColumns;
        string part = tile.Warpgroups ? Int("shr.u32", warp, "2") : warp;
        _partRow = Int("mul.lo.u32", Int("div.u32", part, $"{across}"), $"{tile.PartRows}");
        _partColumn = Int("mul.lo.u32", Int("rem.u32", part, $"{across}"), $"{tile.PartColumns}");
        _warpRow = tile.Warpgroups ? Int("mad.lo.u32", Int("and.b32", warp, "3"), "16", _partRow) : _partRow;
        _ring = Int("mov.u32", "ring");
    }

    /// <summary>Image, y and x of an output row; dividing by multiplication with what the host worked out.</summary>
    private (string Image, string Y, string X) Place(string row)
    {
        string image = Divide(row, nameof(TensorArguments.PixelsReciprocal), nameof(TensorArguments.PixelsShift));
        string pixel = Int("sub.u32", row, Int("mul.lo.u32", image, Number(nameof(TensorArguments.GridPixels))));
        string y = Divide(pixel, nameof(TensorArguments.WidthReciprocal), nameof(TensorArguments.WidthShift));
        return (image, y, Int("sub.u32", pixel, Int("mul.lo.u32", y, Number(nameof(TensorArguments.GridW)))));

        string Divide(string value, string reciprocal, string shift)
        {
            string product = New("b64"), quotient = New("b64");
            Emit($"mul.wide.u32 {product}, {value}, {Number(reciprocal)};");
            Emit($"shr.u64 {quotient}, {product}, {Number(shift)};");
            return Int("cvt.u32.u64", quotient);
        }
    }

    /// <summary>Where an output row stands in the input: y, x and the address of its pixel. Rows that are not there stand outside every image.</summary>
    private (string Y, string X, string Address) InputPlace(string row)
    {
        var (image, gridY, gridX) = Place(row);
        string inside = New("p"), address = New("b64"), bytes = New("b64");
        string y = Int("mul.lo.u32", gridY, Number(nameof(TensorArguments.StrideH))), x = Int("mul.lo.u32", gridX, Number(nameof(TensorArguments.StrideW)));
        string pixel = Int("mad.lo.u32", Int("mad.lo.u32", image, Number(nameof(TensorArguments.InputH)), y), Number(nameof(TensorArguments.InputW)), x);
        Emit($"mul.wide.u32 {bytes}, {pixel}, {Number(nameof(TensorArguments.InputPixelBytes))};");
        Emit($"add.s64 {address}, {_input}, {bytes};");
        Emit($"setp.lt.u32 {inside}, {row}, {_rows};");
        return (Int("selp.b32", y, $"{TensorArguments.Outside}", inside), x, address);
    }

    // ---- reading the input and the weights into a stage ----

    private (string Y, string X, string Address)[] _places = [];
    private string _lastWeights = "", _tableAt = "", _target = "", _weightAt = "", _inputH = "", _inputW = "";
    private readonly string[] _entry = new string[3];

    /// <summary>A thread copies one chunk of several rows; the rows lie a multiple of eight apart, so that it writes to the same place of each line.</summary>
    private void ChunkRows()
    {
        int apart = tile.Threads / TensorTile.Chunk;
        string chunk = Int("and.b32", _thread, "7"), line = Int("shr.u32", _thread, "3");
        _places = [.. Enumerable.Range(0, tile.Rows / apart).Select(i => InputPlace(Int("add.u32", Int("add.u32", _firstRow, line), $"{i * apart}")))];
        string swizzled = Int("shl.b32", Int("xor.b32", chunk, Int("and.b32", line, "7")), "4");
        _target = Int("add.u32", Int("mad.lo.u32", line, $"{LineBytes}", swizzled), _ring);
        Entries(chunk);
    }

    /// <summary>A thread gathers whole chunks of one row, value by value; where there are more threads than rows they share the chunks.</summary>
    private void ValueRow()
    {
        string line = Int("and.b32", _thread, $"{tile.Rows - 1}");
        _places = [InputPlace(Int("add.u32", _firstRow, line))];
        _target = Int("mad.lo.u32", line, $"{LineBytes}", _ring);
        Entries(Int("mul.lo.u32", Int("div.u32", _thread, $"{tile.Rows}"), $"{ThreadChunks * TensorTile.Chunk}"));
    }

    /// <summary>Chunks of a row that a thread gathers.</summary>
    private int ThreadChunks => TensorTile.Chunk * tile.Rows / tile.Threads;

    private void Entries(string first)
    {
        _inputH = Number(nameof(TensorArguments.InputH));
        _inputW = Number(nameof(TensorArguments.InputW));
        _tableAt = New("b64");
        Emit($"mad.wide.u32 {_tableAt}, {first}, {TensorArguments.EntryBytes}, {_table};");
        _weightAt = New("b64");
        string panel = Int("mul.lo.u32", _columnTile, _steps), panelStart = New("b64");
        Emit($"mad.wide.u32 {panelStart}, {panel}, {tile.Columns * LineBytes}, {_weight};");
        Emit($"mad.wide.u32 {_weightAt}, {_thread}, 16, {panelStart};");
        _lastWeights = New("p");
        Emit($"setp.lt.u32 {_lastWeights}, {_thread}, {tile.Columns * TensorTile.Chunk % tile.Threads};");
        for (int i = 0; i < _entry.Length; i++)
            _entry[i] = New("b32");
        if (wholeChunks)
            ReadEntry(0, advance: TensorTile.Chunk);
    }

    private void ReadEntry(int offset, int advance = 0)
    {
        Emit($"ld.global.v4.b32 {{{_entry[0]}, {_entry[1]}, {_entry[2]}, {New("b32")}}}, [{_tableAt}+{offset * TensorArguments.EntryBytes}];");
        if (advance > 0)
            Emit($"add.s64 {_tableAt}, {_tableAt}, {advance * TensorArguments.EntryBytes};");
    }

    /// <summary>Whether the entry's tap hits the input at a place, and the address of what it hits.</summary>
    private (string Inside, string Address) Hit((string Y, string X, string Address) place)
    {
        string yInside = New("p"), inside = New("p"), address = New("b64"), offset = New("b64");
        Emit($"setp.lt.u32 {yInside}, {Int("add.u32", place.Y, _entry[0])}, {_inputH};");
        Emit($"setp.lt.and.u32 {inside}, {Int("add.u32", place.X, _entry[1])}, {_inputW}, {yInside};");
        Emit($"cvt.s64.s32 {offset}, {_entry[2]};");
        Emit($"add.s64 {address}, {place.Address}, {offset};");
        return (inside, address);
    }

    /// <summary>Starts the next step's copies into a stage; <paramref name="stage"/> is its offset in the ring.</summary>
    private void ReadStep(string stage)
    {
        string target = Int("add.u32", _target, stage);
        if (wholeChunks)
        {
            for (int i = 0; i < _places.Length; i++)
            {
                var (inside, address) = Hit(_places[i]);
                // Nothing is read of 0 bytes, and the rest of the 16 becomes zero.
                Emit($"cp.async.cg.shared.global [{target}+{i * (tile.Threads / TensorTile.Chunk) * LineBytes}], [{address}], 16, {Int("selp.b32", "16", "0", inside)};");
            }
            ReadEntry(0, advance: TensorTile.Chunk); // the next step's, long before it is needed; the table has one step more
        }
        else
        {
            GatherValues(target);
        }
        string weights = Int("add.u32", Int("mad.lo.u32", _thread, "16", _ring), stage);
        int chunks = tile.Columns * TensorTile.Chunk; // of which the threads take one each in turn
        for (int first = 0; first < chunks; first += tile.Threads)
            Emit($"{(first + tile.Threads > chunks ? $"@{_lastWeights} " : "")}cp.async.cg.shared.global [{weights}+{RowBytes + first * 16}], [{_weightAt}+{first * 16}], 16;");
        Emit($"add.s64 {_weightAt}, {_weightAt}, {tile.Columns * LineBytes};");
    }

    private void GatherValues(string target)
    {
        string firstChunk = Int("mul.lo.u32", Int("div.u32", _thread, $"{tile.Rows}"), $"{ThreadChunks}"), line = Int("and.b32", _thread, "7");
        for (int chunk = 0; chunk < ThreadChunks; chunk++)
        {
            var pairs = new string[TensorTile.Chunk / 2];
            string[] values = [.. Enumerable.Range(0, TensorTile.Chunk).Select(i =>
            {
                ReadEntry(chunk * TensorTile.Chunk + i);
                var (inside, address) = Hit(_places[0]);
                string value = New("b16");
                Emit($"mov.b16 {value}, 0;");
                Emit($"@{inside} ld.global.b16 {value}, [{address}];");
                return value;
            })];
            for (int i = 0; i < pairs.Length; i++)
                pairs[i] = Int("mov.b32", $"{{{values[2 * i]}, {values[2 * i + 1]}}}");
            string place = Int("shl.b32", Int("xor.b32", Int("add.u32", firstChunk, $"{chunk}"), line), "4");
            Emit($"st.shared.v4.b32 [{Int("add.u32", target, place)}], {{{string.Join(", ", pairs)}}};");
        }
        Emit($"add.s64 {_tableAt}, {_tableAt}, {TensorTile.Depth * TensorArguments.EntryBytes};");
    }

    // ---- the loop ----

    private string[] _sums = [];

    /// <summary>Runs over the steps.</summary>
    /// <param name="ahead">Steps whose copies are on their way when one begins.</param>
    /// <param name="step">
    /// Writes what a step does, given the stage to read and what starts the copies of the step that is <paramref name="ahead"/> of it; before that
    /// it waits until everyone's copies of its own stage are there and everyone has read the stage that is filled.
    /// </param>
    private void Loop(int ahead, Action<string, Action> step)
    {
        string reading = Int("mov.u32", "0"), writing = Int("mov.u32", "0"), done = Int("mov.u32", "0"), filled = Int("mov.u32", "0");
        string more = New("p"), end = New("p"), wrap = New("p");
        for (int stage = 0; stage < ahead; stage++)
            Fill($"FILLED{stage}");
        Label("STEP");
        Emit($"setp.ge.u32 {end}, {done}, {_steps};");
        Emit($"@{end} bra DONE;");
        step(reading, () => Fill("AHEAD"));
        Emit($"add.u32 {done}, {done}, 1;");
        Turn(reading);
        Emit("bra STEP;");
        Label("DONE");

        void Fill(string label)
        {
            Emit($"setp.ge.u32 {more}, {filled}, {_steps};");
            Emit($"@{more} bra {label};");
            ReadStep(writing);
            Label(label);
            Emit("cp.async.commit_group;"); // also an empty one, so that the count of groups is that of steps
            Emit($"add.u32 {filled}, {filled}, 1;");
            Turn(writing);
        }

        void Turn(string offset)
        {
            Emit($"add.u32 {offset}, {offset}, {tile.StageBytes};");
            Emit($"setp.ge.u32 {wrap}, {offset}, {tile.SharedBytes};");
            Emit($"selp.b32 {offset}, 0, {offset}, {wrap};");
        }
    }

    private string Pointer(string argument)
    {
        string register = New("b64");
        Emit($"ld.param.u64 {register}, [a+{TensorArguments.Offset(argument)}];");
        return register;
    }

    private string Number(string argument) => Int("ld.param.u32", $"[a+{TensorArguments.Offset(argument)}]");
}
