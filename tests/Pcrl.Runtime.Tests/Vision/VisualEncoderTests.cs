using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;
using Pcrl.Runtime.Vision;

namespace Pcrl.Runtime.Tests.Vision;

public sealed class VisualEncoderTests
{
    private const int Slices = 3;

    private static readonly VisualConfig Basic = new() { ImageSize = 32, Block = "basic", Depths = [1, 2], Width = 4, Grid = 6, TokenWidth = 10 };
    private static readonly VisualConfig Bottleneck = Basic with { Block = "bottleneck", Depths = [2, 1, 1], Width = 3, Mean = [0.3f, 0.4f, 0.5f] };

    /// <summary>With channels enough for every kind of layer.</summary>
    private static readonly VisualConfig Lanes = new() { ImageSize = 32, Block = "basic", Depths = [1, 1], Width = 32, Grid = 4, TokenWidth = 10 };

    public static IEnumerable<object[]> Configs => [[Basic], [Bottleneck], [Basic with { VisualTokens = "global" }]];

    [Theory]
    [MemberData(nameof(Configs))]
    public void Tokens_masks_and_grid_are_what_the_naive_operators_give(VisualConfig config)
    {
        using var device = Device.Open(DeviceKind.Cpu, threads: 2);
        var weights = new RandomWeights();
        using var encoder = new VisualEncoder(config, weights.Read, device, segmentation: true, Slices);
        float[] slices = Picture(config);
        var expected = new NaiveEncoder(config, weights, Slices).Encode(slices);

        var tokens = new float[encoder.TokenCount * config.TokenWidth];
        var masks = new float[Slices * config.Grid * config.Grid];
        for (int round = 0; round < 2; round++) // the second finds used memory
        {
            encoder.Encode(slices, tokens, masks);
            AssertClose(expected.Tokens, tokens);
            AssertClose(expected.Masks, masks);
            AssertClose(expected.Grid, encoder.Trunk.Grid.ToArray());
        }
        Assert.Equal(tokens, encoder.Encode(slices));
        Assert.Equal(config.TokenCount(Slices), encoder.TokenCount);
        Assert.All(masks, m => Assert.InRange(m, 0f, 1f));
    }

    [Fact]
    public void The_gpu_kernels_give_the_same()
    {
        var config = new VisualConfig { ImageSize = 16, Block = "basic", Depths = [1], Width = 2, Grid = 2, TokenWidth = 4 };
        var weights = new RandomWeights();
        using var cpu = Device.Open(DeviceKind.Cpu, threads: 1);
        using var gpu = Device.Open(DeviceKind.Emulator);
        using var fast = new VisualEncoder(config, weights.Read, cpu, segmentation: false, slices: 2);
        using var emulated = new VisualEncoder(config, weights.Read, gpu, segmentation: false, slices: 2);
        float[] slices = Picture(config, 2);
        AssertClose(fast.Encode(slices), emulated.Encode(slices));
    }

    [Fact]
    public void Without_segmentation_no_head_is_read_and_masks_are_refused()
    {
        using var device = Device.Open(DeviceKind.Cpu, threads: 1);
        var weights = new RandomWeights();
        using var encoder = new VisualEncoder(Basic, weights.Read, device, slices: Slices);
        Assert.False(encoder.HasSegmentation);
        Assert.DoesNotContain(weights.Names, n => n.StartsWith("local_seg", StringComparison.Ordinal));
        var tokens = new float[encoder.TokenCount * Basic.TokenWidth];
        Assert.Throws<ArgumentException>(() => encoder.Encode(Picture(Basic), tokens, new float[Slices * 36]));
        Assert.Throws<ArgumentException>(() => encoder.Encode(Picture(Basic).AsSpan(1), tokens, []));
        Assert.Throws<ArgumentException>(() => encoder.Encode(Picture(Basic), tokens.AsSpan(1), []));
    }

    /// <summary>Whichever way slices go through, each gets the bits that it gets alone on one thread.</summary>
    [Theory]
    [InlineData(1, 24)]
    [InlineData(2, 24)]
    [InlineData(3, 7)] // a prime: one slice after the other in lanes, all together in the branches
    [InlineData(5, 24)]
    [InlineData(8, 24)]
    [InlineData(16, 24)]
    [InlineData(30, 24)] // more threads than slices
    [InlineData(3, 1)]
    public void Bits_do_not_depend_on_threads_and_slices(int threads, int slices)
    {
        foreach (var config in (VisualConfig[])[Lanes, Lanes with { Block = "bottleneck", Width = 8 }, Lanes with { ImageSize = 128, Depths = [1], Width = 64 }])
        {
            using var alone = Device.Open(DeviceKind.Cpu, threads: 1);
            using var device = Device.Open(DeviceKind.Cpu, threads);
            using var single = new VisualEncoder(config, new RandomWeights().Read, alone, segmentation: true, slices: 1);
            using var encoder = new VisualEncoder(config, new RandomWeights().Read, device, segmentation: true, slices);
            float[] study = Picture(config, slices);
            int side = config.ImageSize * config.ImageSize, masks = config.Grid * config.Grid, width = config.TokenWidth;
            var (tokens, mask) = (new float[encoder.TokenCount * width], new float[slices * masks]);
            var (expected, expectedMask) = (new float[tokens.Length], new float[mask.Length]);
            for (int slice = 0; slice < slices; slice++)
            {
                var own = new float[2 * width];
                single.Encode(study.AsSpan(slice * side, side), own, expectedMask.AsSpan(slice * masks, masks));
                own.AsSpan(0, width).CopyTo(expected.AsSpan(slice * width));
                own.AsSpan(width).CopyTo(expected.AsSpan((slices + slice) * width));
            }
            for (int round = 0; round < 3; round++)
            {
                encoder.Encode(study, tokens, mask);
                Assert.Equal(expected, tokens);
                Assert.Equal(expectedMask, mask);
            }
        }
    }

    [Fact]
    public void Small_models_go_in_lanes_and_large_ones_and_gpus_do_not()
    {
        using var cpu = Device.Open(DeviceKind.Cpu, threads: 16);
        using var two = Device.Open(DeviceKind.Cpu, threads: 2);
        using var many = Device.Open(DeviceKind.Cpu, threads: 128);
        using var one = Device.Open(DeviceKind.Cpu, threads: 1);
        using var eight = Device.Open(DeviceKind.Cpu, threads: 8);
        using var gpu = Device.Open(DeviceKind.Emulator, threads: 16);
        var (small, full) = (new VisualConfig { ImageSize = 96, Width = 32, Block = "basic", Depths = [1, 1, 1] }, new VisualConfig());
        Assert.Equal((new Passage(12, 2, 24), new Passage(3, 8, 24)), Passage.Of(small, cpu, 24));
        Assert.Equal((new Passage(2, 4, 24), new Passage(2, 12, 24)), Passage.Of(small, two, 24));
        Assert.Equal((new Passage(16, 1, 23), new Passage(1, 23, 23)), Passage.Of(small, cpu, 23));
        Assert.Equal((new Passage(24, 1, 24), new Passage(3, 8, 24)), Passage.Of(small, many, 24)); // no more lanes than chunks
        Assert.Equal((new Passage(12, 2, 24, 16), new Passage(3, 8, 24, 16)), Passage.Of(small, cpu, 24, guests: true));
        Assert.Equal((new Passage(24, 1, 24, 32), new Passage(3, 8, 24, 32)), Passage.Of(small, many, 24, guests: true));
        Assert.Equal((new Passage(8, 3, 24), new Passage(3, 8, 24)), Passage.Of(small with { ImageSize = 160 }, eight, 24, guests: true)); // they would need too much memory
        var shared = (new Passage(1, 2, 24), new Passage(1, 24, 24));
        Assert.Equal(shared, Passage.Of(full, two, 24, guests: true));
        Assert.Equal(shared, Passage.Of(full, cpu, 24));
        Assert.Equal(shared, Passage.Of(full, two, 24));
        Assert.Equal(shared, Passage.Of(small, one, 24));
        Assert.Equal((new Passage(1, 24, 24), new Passage(1, 24, 24)), Passage.Of(small, gpu, 24));
    }

    [Fact]
    public async Task Two_encoders_of_one_device_do_not_disturb_each_other()
    {
        using var device = Device.Open(DeviceKind.Cpu, threads: 3);
        var large = Lanes with { ImageSize = 512, Depths = [1], Width = 64, Mean = [0.3f, 0.4f, 0.5f] };
        Assert.Equal(1, Passage.Of(large, device, 4).Trunk.Lanes);
        using var first = new VisualEncoder(Lanes, new RandomWeights().Read, device, slices: 4);
        using var second = new VisualEncoder(large, new RandomWeights().Read, device, slices: 4);
        float[] a = Picture(Lanes, 4), b = Picture(large, 4), expectedA = first.Encode(a), expectedB = second.Encode(b);
        var beside = Task.Run(() => Enumerable.Range(0, 3).Select(_ => second.Encode(b)).ToList());
        for (int round = 0; round < 3 || !beside.IsCompleted; round++)
            Assert.Equal(expectedA, first.Encode(a));
        Assert.All(await beside, tokens => Assert.Equal(expectedB, tokens));
    }

    [Theory]
    [InlineData(2, 24)]
    [InlineData(5, 24)]
    [InlineData(3, 7)] // branches without lanes: the study that has all threads shares their layers
    [InlineData(2, 23)]
    public async Task Guests_get_the_same_bits_beside_each_other_and_beside_a_study_that_has_all_threads(int threads, int slices)
    {
        using var device = Device.Open(DeviceKind.Cpu, threads);
        using var alone = new VisualEncoder(Lanes, new RandomWeights().Read, device, segmentation: true, slices);
        using var encoder = new VisualEncoder(Lanes, new RandomWeights().Read, device, segmentation: true, slices, guests: true);
        Assert.Equal(0, alone.Guests);
        Assert.Throws<InvalidOperationException>(() => alone.EncodeAsGuest(Picture(Lanes, slices)));
        Assert.Equal(threads, encoder.Guests);
        float[][] studies = [.. Enumerable.Range(1, 4).Select(study => Picture(Lanes, slices).Select(value => value / study).ToArray())];
        float[][] expected = [.. studies.Select(study => alone.Encode(study))];
        Assert.NotEqual(expected[0], expected[1]);
        // More callers than room, so that some wait; now and then one is cancelled, which ends no other.
        var calls = new CancellationTokenSource[2 * threads + 1];
        int cancelled = 0;
        var guests = Enumerable.Range(0, calls.Length).Select(caller => Task.Factory.StartNew(
            () =>
            {
                for (int round = 0; round < 10 || Volatile.Read(ref cancelled) == 0; round++)
                {
                    var call = calls[caller] = new CancellationTokenSource();
                    try
                    {
                        Assert.Equal(expected[(caller + round) % 4], encoder.EncodeAsGuest(studies[(caller + round) % 4], call.Token));
                    }
                    catch (OperationCanceledException) when (call.IsCancellationRequested)
                    {
                        Interlocked.Increment(ref cancelled);
                    }
                }
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToList();
        var random = new Random(slices);
        while (!guests.TrueForAll(guest => guest.IsCompleted))
        {
            Assert.Equal(expected[0], encoder.Encode(studies[0]));
            calls[random.Next(calls.Length)]?.Cancel();
            Assert.Equal(expected[1], alone.Encode(studies[1]));
        }
        await Task.WhenAll(guests);
        Assert.Throws<ArgumentException>(() => encoder.EncodeAsGuest(studies[0].AsSpan(1)));
        // All have left their lanes: there is room for as many as before.
        using var all = new Barrier(threads);
        await Task.WhenAll(Enumerable.Range(0, threads).Select(_ => Task.Factory.StartNew(
            () =>
            {
                using var lane = device.EnterLane(CancellationToken.None);
                Assert.True(all.SignalAndWait(TimeSpan.FromSeconds(30)));
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Cancelling_stops_between_layers(int threads)
    {
        using var device = Device.Open(DeviceKind.Cpu, threads);
        using var encoder = new VisualEncoder(Basic, new RandomWeights().Read, device, slices: Slices);
        Assert.Throws<OperationCanceledException>(() => encoder.Encode(Picture(Basic), new CancellationToken(canceled: true)));
        Assert.NotEmpty(encoder.Encode(Picture(Basic)));
    }

    [Fact]
    public void Encoding_allocates_nothing()
    {
        using var device = Device.Open(DeviceKind.Cpu, threads: 1);
        using var encoder = new VisualEncoder(Basic, new RandomWeights().Read, device, segmentation: true, Slices);
        float[] slices = Picture(Basic);
        var tokens = new float[encoder.TokenCount * Basic.TokenWidth];
        var masks = new float[Slices * 36];
        encoder.Encode(slices, tokens, masks);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 20; i++)
            encoder.Encode(slices, tokens, masks);
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Fact]
    public void An_impossible_config_is_an_input_error()
    {
        using var device = Device.Open(DeviceKind.Cpu, threads: 1);
        VisualConfig[] impossible =
        [
            Basic with { Block = "dense" }, Basic with { Grid = 7 }, Basic with { ImageSize = 0 }, Basic with { ImageSize = 1 << 20 }, Basic with { Depths = [] },
            Basic with { Depths = [1, 0] }, Basic with { Width = -1 }, Basic with { Std = [1, 1] }, Basic with { Std = [1, 0, 1] }, Basic with { VisualTokens = "local" },
        ];
        foreach (var config in impossible)
            Assert.Throws<InputException>(() => new VisualEncoder(config, new RandomWeights().Read, device));
    }

    private static float[] Picture(VisualConfig config, int slices = Slices)
    {
        var random = new Random(11);
        var values = new float[slices * config.ImageSize * config.ImageSize];
        foreach (ref float value in values.AsSpan())
            value = random.NextSingle();
        return values;
    }

    private static void AssertClose(float[] expected, float[] got)
    {
        Assert.Equal(expected.Length, got.Length);
        double rms = Math.Sqrt(expected.Average(v => (double)v * v));
        Assert.True(rms > 1e-3, "the expected values say nothing");
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], got[i], 1e-5 * (rms + Math.Abs(expected[i])));
    }
}
