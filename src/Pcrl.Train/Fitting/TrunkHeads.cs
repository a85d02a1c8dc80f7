using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Fitting;

/// <summary>
/// The heads that teach a trunk, kept between its stages and then thrown away. One linear head on the global average pool reads the slice labels, so that they stay
/// linearly readable in P; side and region are part of them and so outlive the pooling. Heads on the cells of the last two stages are told where the lesion and
/// which organ is, without which small lesions are not found in a thousand steps.
/// </summary>
internal sealed class TrunkHeads : Module
{
    private readonly Linear slice, cell, early, organ;
    private readonly int _channels;

    /// <param name="channels">Of the trunk's last stage.</param>
    public TrunkHeads(int channels)
        : base(nameof(TrunkHeads))
    {
        _channels = channels;
        slice = Head(channels);
        cell = Head(channels);
        early = Head(channels / 2);
        organ = Linear(channels / 2, TrunkTargets.OrganCount);
        RegisterComponents();
    }

    /// <summary>P → targets of the slice.</summary>
    public Linear Slice => slice;

    /// <summary>Cells of the last stage → targets of a cell.</summary>
    public Linear Cell => cell;

    /// <summary>Cells of the stage before it → targets of a cell.</summary>
    public Linear Early => early;

    /// <summary>Cells of the stage before the last → organs.</summary>
    public Linear Organ => organ;

    /// <summary>Others with the same values.</summary>
    public TrunkHeads Replicate()
    {
        var copy = new TrunkHeads(_channels);
        using var nothing = no_grad();
        foreach (var (to, from) in copy.parameters().Zip(parameters()))
            to.copy_(from);
        return copy;
    }

    private static Linear Head(int channels)
    {
        var head = Linear(channels, TrunkTargets.All.Count);
        init.constant_(head.bias!, -4); // what is asked is rare: start from there
        return head;
    }
}
