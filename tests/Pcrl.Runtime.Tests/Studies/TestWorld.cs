using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

/// <summary>
/// A box in the patient whose every millimetre has its own value, so that a slice read back tells whether each pixel came from where it
/// should: x millimetres to the patient's left, y to posterior, z to cranial, from the box's right anterior caudal corner.
/// </summary>
internal static class TestWorld
{
    public const int Width = 20, Height = 18, Slices = 14;

    public static int Value(int x, int y, int z) => x + Width * y + Width * Height * z;

    /// <summary>Asserts that the slices are the box, as a radiologist looks at it, from caudal to cranial.</summary>
    public static void AssertShown(Study study)
    {
        Assert.Equal(Slices, study.Slices.Count);
        for (int z = 0; z < Slices; z++)
        {
            var slice = study.Slices[z];
            Assert.Equal((Width, Height), (slice.Width, slice.Height));
            Assert.Equal(Enumerable.Range(0, Width * Height).Select(i => (float)Value(i % Width, i / Width, z)), slice.Pixels.ToArray());
        }
    }
}

/// <summary>Hostile files: whatever they hold, the reader reads a study or throws <see cref="InputException"/>.</summary>
internal static class Hostile
{
    /// <summary>Flips a few bytes of one file again and again, then cuts it short again and again.</summary>
    public static void Maul(string studyPath, string file, int seed, int flips, int cuts, int headerBytes)
    {
        byte[] good = File.ReadAllBytes(file);
        var random = new Random(seed);
        for (int i = 0; i < flips + cuts; i++)
        {
            byte[] bad = (byte[])good.Clone();
            if (i < flips)
            {
                for (int n = random.Next(1, 4); n > 0; n--)
                {
                    bad[random.Next(random.Next(4) > 0 ? Math.Min(headerBytes, bad.Length) : bad.Length)] = (byte)random.Next(256);
                }
            }
            else
            {
                bad = bad[..random.Next(bad.Length)];
            }
            File.WriteAllBytes(file, bad);
            try
            {
                var study = StudyReader.Read(studyPath);
                Assert.All(study.Slices, s => Assert.Equal(s.Width * s.Height, s.Pixels.ToArray().Length));
            }
            catch (InputException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
        }
        File.WriteAllBytes(file, good);
    }
}
