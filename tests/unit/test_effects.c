/* The list of effects and its arena. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "effects.h"

#include <string.h>

static void effects_come_in_the_order_they_were_added_and_are_zeroed(void **state)
{
    (void)state;
    struct effects *effects = effects_new();
    for (uint64_t round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < 1000; i++) {
            struct effect *effect = effects_add(effects, i % 2 == 0 ? EFFECT_MESSAGE : EFFECT_ENDED);
            assert_int_equal(effect->session_id, 0);
            effect->session_id = i;
        }
        assert_int_equal(effects_count(effects), 1000);
        for (uint32_t i = 0; i < 1000; i++)
            assert_int_equal(effects_at(effects, i)->session_id, i);
        effects_clear(effects);
        assert_int_equal(effects_count(effects), 0);
    }
    effects_free(effects);
}

static void room_is_aligned_and_keeps_its_content_until_the_clear(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 8, 100, 70000, 3, 65536, 1000000, 24};
    enum { COUNT = 200 };
    uint8_t *rooms[COUNT];
    struct effects *effects = effects_new();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            rooms[i] = effects_allocate(effects, sizes[i % 9]);
            assert_int_equal((uintptr_t)rooms[i] % sizeof(uint64_t), 0);
            memset(rooms[i], i, sizes[i % 9]);
        }
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(rooms[i][0], i);
            assert_int_equal(rooms[i][sizes[i % 9] - 1], i);
        }
        effects_clear(effects);
    }
    effects_free(effects);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(effects_come_in_the_order_they_were_added_and_are_zeroed),
        cmocka_unit_test(room_is_aligned_and_keeps_its_content_until_the_clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
