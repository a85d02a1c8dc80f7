using Pcrl.Kernels;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// The visual encoder of a bundle and the device it runs on. When a GPU runs out of memory or breaks down, at loading or in a study, the CPU
/// takes over, and <see cref="Choice"/> says so: a report takes longer then, but there is one.
/// </summary>
internal sealed class DeviceEncoder : IDisposable
{
    private readonly Lock _oneAtATime = new();
    private readonly Func<Device, VisualEncoder> _load;
    private VisualEncoder _encoder;

    private DeviceEncoder(Device device, Func<Device, VisualEncoder> load)
    {
        Device = device;
        _load = load;
        _encoder = Load();
    }

    /// <summary>Where it runs now.</summary>
    internal Device Device { get; private set; }

    /// <summary>One line: the device and why, with a warning if it is not the one that was chosen first.</summary>
    public string Choice => Device.Choice;

    /// <summary>Loads <c>visual.gguf</c>; the device is this object's from now on, also if loading fails.</summary>
    /// <exception cref="InputException">As <see cref="VisualGguf.Load"/>.</exception>
    public static DeviceEncoder Load(string path, VisualConfig config, Device device, int slices = 24, bool guests = false) =>
        new(device, d => VisualGguf.Load(path, config, d, slices, guests));

    /// <summary>As <see cref="VisualEncoder.Guests"/>.</summary>
    public int Guests => _encoder.Guests;

    /// <summary>As <see cref="VisualEncoder.EncodeAsGuest"/>.</summary>
    public float[] EncodeAsGuest(ReadOnlySpan<float> slices, CancellationToken cancellation = default) => _encoder.EncodeAsGuest(slices, cancellation); // what has guests is never replaced

    /// <summary>As <see cref="VisualEncoder.Encode(ReadOnlySpan{float}, CancellationToken)"/>.</summary>
    public float[] Encode(ReadOnlySpan<float> slices, CancellationToken cancellation = default)
    {
        lock (_oneAtATime)
        {
            try
            {
                return _encoder.Encode(slices, cancellation);
            }
            catch (Exception failure) when (Device.IsFailure(failure))
            {
                // What is on the device is lost and goes with it.
                Device = Device.FallBack(failure);
                _encoder = Load();
                return _encoder.Encode(slices, cancellation);
            }
        }
    }

    public void Dispose()
    {
        _encoder.Dispose();
        Device.Dispose();
    }

    private VisualEncoder Load()
    {
        try
        {
            return _load(Device);
        }
        catch (Exception failure) when (Device.IsFailure(failure))
        {
            Device = Device.FallBack(failure);
            return Load();
        }
        catch
        {
            Device.Dispose();
            throw;
        }
    }
}
