/* test_bench_ledger.c — the load generator's account of messages, and its histogram: who checks must be checked. */
#include "bench/histogram.h"
#include "bench/ledger.h"
#include "bench/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

static void first_deliveries_in_order_are_in_order_also_with_gaps(void **state)
{
    struct track track = {0};
    (void)state;
    assert_int_equal(track_deliver(&track, 0), ARRIVAL_IN_ORDER);
    assert_int_equal(track_deliver(&track, 1), ARRIVAL_IN_ORDER);
    assert_int_equal(track_deliver(&track, 500), ARRIVAL_IN_ORDER);
    numbers_release(&track.delivered);
}

static void a_first_delivery_behind_a_later_one_is_out_of_order(void **state)
{
    struct track track = {0};
    (void)state;
    track_deliver(&track, 7);
    assert_int_equal(track_deliver(&track, 6), ARRIVAL_OUT_OF_ORDER);
    assert_int_equal(track_deliver(&track, 8), ARRIVAL_IN_ORDER);
    numbers_release(&track.delivered);
}

static void a_second_delivery_is_repeated_and_not_out_of_order(void **state)
{
    struct track track = {0};
    (void)state;
    track_deliver(&track, 3);
    track_deliver(&track, 4);
    assert_int_equal(track_deliver(&track, 3), ARRIVAL_REPEATED);
    assert_int_equal(track_deliver(&track, 4), ARRIVAL_REPEATED);
    numbers_release(&track.delivered);
}

static void lost_is_what_was_acknowledged_and_has_not_arrived(void **state)
{
    struct numbers acknowledged = {0};
    struct track track = {0};
    uint64_t first = 0;
    (void)state;
    for (uint64_t n = 0; n < 1000; n++)
        numbers_add(&acknowledged, n);
    for (uint64_t n = 0; n < 990; n++) {
        if (n != 63 && n != 64 && n != 700)
            track_deliver(&track, n);
    }
    track_deliver(&track, 5000); /* delivered, but never acknowledged: no loss, no gain */
    assert_int_equal(ledger_lost(&acknowledged, 1, 0, &track, &first), 3 + 10);
    assert_int_equal(first, 63);
    numbers_release(&acknowledged);
    numbers_release(&track.delivered);
}

static void a_publisher_of_several_topics_loses_only_what_belongs_to_the_topic(void **state)
{
    struct numbers acknowledged = {0};
    struct track track = {0};
    uint64_t first = 0;
    (void)state;
    for (uint64_t n = 0; n < 100; n++)
        numbers_add(&acknowledged, n);
    for (uint64_t place = 0; place < 24; place++) /* of 3, 7, 11, ... 99: all but the last */
        track_deliver(&track, place);
    assert_int_equal(ledger_lost(&acknowledged, 4, 3, &track, &first), 1);
    assert_int_equal(first, 99);
    numbers_release(&acknowledged);
    numbers_release(&track.delivered);
}

/* Every message of every publisher must have a track at every subscriber of its topic, and nowhere else. */
static void check_routes(const struct plan *plan)
{
    for (uint64_t p = 0; p < plan->publishers; p++) {
        for (uint64_t n = 0; n < 2 * plan->stride; n++) {
            uint64_t topic = plan_topic(plan, p, n), track, readers = 0;
            assert_true(topic < plan->topics);
            for (uint64_t s = 0; s < plan->subscribers; s++)
                readers += s % plan->topics == topic;
            assert_int_equal(plan_subscribers_of(plan, topic), readers);
            assert_true(plan_track(plan, topic, p, &track));
            assert_true(track < plan_publishers_of(plan, topic));
            assert_int_equal(plan_track_publisher(plan, topic, track), p);
        }
    }
    uint64_t track;
    assert_false(plan_track(plan, 0, plan->publishers, &track));
    if (plan->topics > 1 && plan->publishers > 1)
        assert_false(plan_track(plan, 0, 1, &track));
}

static void every_message_has_one_place_at_each_subscriber_of_its_topic(void **state)
{
    static const struct plan plans[] = {
        {.publishers = 50, .subscribers = 5, .topics = 5, .stride = 1},
        {.publishers = 7, .subscribers = 3, .topics = 3, .stride = 1},
        {.publishers = 20, .subscribers = 20, .topics = 20, .stride = 1},
        {.publishers = 1, .subscribers = 50, .topics = 1, .stride = 1},
        {.publishers = 10, .subscribers = 200, .topics = 200, .stride = 20},
        {.publishers = 1, .subscribers = 5, .topics = 5, .stride = 5},
        {.publishers = 3, .subscribers = 0, .topics = 1, .stride = 1},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(plans) / sizeof(plans[0]); i++)
        check_routes(&plans[i]);
}

static void percentiles_are_at_most_one_percent_high_and_never_low(void **state)
{
    struct histogram *h = calloc(1, sizeof(*h));
    static const double percents[] = {1, 50, 90, 99, 99.9, 100};
    (void)state;
    for (uint64_t v = 1; v <= 100000; v++)
        histogram_record(h, v * 1000);
    for (unsigned i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        double truth = percents[i] * 1e6, got = (double)histogram_percentile(h, percents[i]);
        assert_true(got >= truth - 1 && got <= truth * 1.01);
    }
    assert_int_equal(histogram_percentile(h, 100), 100000000);
    free(h);
}

static void a_histogram_takes_any_value(void **state)
{
    struct histogram *h = calloc(1, sizeof(*h));
    (void)state;
    assert_int_equal(histogram_percentile(h, 99), 0);
    histogram_record(h, 0);
    assert_int_equal(histogram_percentile(h, 100), 0);
    histogram_record(h, UINT64_MAX);
    assert_true(histogram_percentile(h, 100) == UINT64_MAX);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_deliveries_in_order_are_in_order_also_with_gaps),
        cmocka_unit_test(a_first_delivery_behind_a_later_one_is_out_of_order),
        cmocka_unit_test(a_second_delivery_is_repeated_and_not_out_of_order),
        cmocka_unit_test(lost_is_what_was_acknowledged_and_has_not_arrived),
        cmocka_unit_test(a_publisher_of_several_topics_loses_only_what_belongs_to_the_topic),
        cmocka_unit_test(every_message_has_one_place_at_each_subscriber_of_its_topic),
        cmocka_unit_test(percentiles_are_at_most_one_percent_high_and_never_low),
        cmocka_unit_test(a_histogram_takes_any_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
