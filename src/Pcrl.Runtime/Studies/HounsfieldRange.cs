namespace Pcrl.Runtime.Studies;

/// <summary>The values a CT can mean. Scanners fill the corners outside their field of view with −2000 or −3024, which stand for air.</summary>
internal static class HounsfieldRange
{
    public const float Air = -1024;
    public const float Highest = 32767;

    /// <summary>The value within the range; air for what is no number.</summary>
    public static float Clamp(double value) => value > Air ? (float)Math.Min(value, Highest) : Air;
}
