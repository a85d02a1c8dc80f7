using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

public sealed class DraftPolicyTests
{
    /// <summary>Batches of 1 to 8 rows that take a fixed time and a time per row.</summary>
    private static DraftPolicy Measured(double fixedSeconds, double rowSeconds, int tokens = 2)
    {
        var policy = new DraftPolicy();
        for (int i = 0; i < 200; i++)
            policy.Measured(1 + i % 8, fixedSeconds + rowSeconds * (1 + i % 8), tokens);
        return policy;
    }

    [Fact]
    public void Rows_that_cost_nothing_are_always_worth_it() => Assert.Equal(0.1, Measured(0.1, 0).Threshold, 3);

    [Fact]
    public void Rows_that_cost_as_much_as_a_token_must_be_nearly_sure() => Assert.Equal(0.9, Measured(0.01, 0.1, tokens: 6).Threshold, 3);

    [Fact]
    public void Between_them_a_row_must_bring_the_tokens_of_its_time() =>
        Assert.Equal(0.01 * 2 / (0.1 + 4.5 * 0.01), Measured(0.1, 0.01).Threshold, 2);

    [Fact]
    public void A_batch_during_which_the_processor_was_away_is_not_counted()
    {
        var policy = Measured(0.1, 0.01);
        double before = policy.Threshold;
        policy.Measured(8, 60, 2);
        Assert.Equal(before, policy.Threshold);
    }

    [Fact]
    public void Chances_follow_what_was_right_lately()
    {
        var policy = new DraftPolicy();
        Assert.InRange(policy.Chance(0.95), 0.9, 1);
        for (int i = 0; i < 300; i++)
            policy.Verified(0.95, right: i % 4 == 0);
        Assert.InRange(policy.Chance(0.95), 0.2, 0.35);
        Assert.InRange(policy.Chance(0.5), 0.4, 0.6);
        for (int i = 0; i < 300; i++)
            policy.Verified(0.95, right: true);
        Assert.InRange(policy.Chance(0.95), 0.9, 1);
    }
}
