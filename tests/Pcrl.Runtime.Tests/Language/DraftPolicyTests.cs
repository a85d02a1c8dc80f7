using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

public sealed class DraftPolicyTests
{
    private static readonly double[] Chances = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];

    /// <summary>A policy that has seen batches of 1 to 8 rows and what they take.</summary>
    private static DraftPolicy Measured(Func<int, double> seconds)
    {
        var policy = new DraftPolicy();
        for (int i = 0; i < 100; i++)
            policy.Measured(1 + i % 8, seconds(1 + i % 8));
        return policy;
    }

    [Fact]
    public void Before_anything_is_measured_rows_cost_nothing() => Assert.Equal(7, new DraftPolicy().Worth(Chances, 1));

    [Fact]
    public void Rows_that_cost_nothing_are_always_worth_it() => Assert.Equal(7, Measured(_ => 0.1).Worth(Chances, 1));

    [Fact]
    public void Rows_that_cost_as_much_as_a_token_are_not() => Assert.Equal(0, Measured(rows => 0.1 * rows).Worth(Chances, 1));

    [Fact]
    public void As_many_rows_are_worth_it_as_make_the_most_tokens_in_the_time()
    {
        static double Seconds(int rows) => rows <= 4 ? 0.1 : 0.2; // rows are computed by fours
        Assert.Equal(3, Measured(Seconds).Worth(Chances, 1));
        Assert.Equal(1, Measured(Seconds).Worth([1.8, 0.9, 0.2], 2)); // 2 x 2 rows
    }

    [Fact]
    public void Many_texts_share_the_time_of_a_batch()
    {
        // 0.1 + 0.01 a row, learnt up to 8 rows, holds for more: the second drafted tokens of 16 texts would not make up for their 16 rows.
        var policy = Measured(rows => 0.1 + 0.01 * rows);
        Assert.Equal(1, policy.Worth([16 * 0.9, 16 * 0.5], 16));
        Assert.Equal(2, policy.Worth([16 * 0.9, 16 * 0.8], 16));
    }

    [Fact]
    public void A_batch_during_which_the_processor_was_away_hardly_counts()
    {
        var policy = Measured(rows => 0.1 + 0.01 * rows);
        int before = policy.Worth(Chances, 1);
        policy.Measured(4, 0.5);
        Assert.Equal(before, policy.Worth(Chances, 1));
    }

    [Fact]
    public void A_width_that_costs_more_from_now_on_is_left_in_the_end()
    {
        static double Seconds(int rows) => rows <= 4 ? 0.1 : 0.2;
        var policy = Measured(Seconds);
        for (int i = 0; i < 60; i++)
            policy.Measured(4, 0.3);
        Assert.NotEqual(3, policy.Worth(Chances, 1));
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
