namespace Pcrl.Runtime.Studies;

/// <summary>The eight anatomical layers of the method, caudal to cranial.</summary>
public static class Anatomy
{
    /// <summary>Names of the layers as Chinese radiology calls the levels.</summary>
    public static IReadOnlyList<string> Levels { get; } =
    [
        "颅底层面眦耳线层面", "鞍上池层面", "第三脑室下部层面", "第三脑室上部层面",
        "侧脑室体部层面", "侧脑室上部层面", "半卵圆中心层面", "大脑皮质上部层面",
    ];
}
