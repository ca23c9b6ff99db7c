/* Tables: what was added is found until it is removed, however they grow, whatever the secret. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/hash_table.h"

#include <stdlib.h>

#define THINGS 20000

struct thing {
    uint64_t key;
    bool in;
};

static uint32_t hashed;

static uint64_t thing_hash(const void *thing)
{
    hashed++;
    return hash_number(((const struct thing *)thing)->key);
}

/* All begin their search at a handful of places. */
static uint64_t poor_hash(const void *thing)
{
    hashed++;
    return ((const struct thing *)thing)->key % 7;
}

static bool thing_is(const void *thing, const void *key)
{
    return ((const struct thing *)thing)->key == *(const uint64_t *)key;
}

static struct thing *find(const struct hash_table *table, uint64_t key)
{
    struct thing thing = {.key = key};
    return hash_table_find(table, table->hash(&thing), thing_is, &key);
}

static void then_it_holds(const struct hash_table *table, struct thing *things, uint32_t count)
{
    uint64_t slot = 0;
    uint32_t in = 0, met = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_ptr_equal(find(table, things[i].key), things[i].in ? &things[i] : NULL);
        in += things[i].in;
    }
    for (struct thing *thing; (thing = hash_table_next(table, &slot)) != NULL; met++)
        assert_true(thing->in);
    assert_int_equal(met, in);
    assert_int_equal(table->count, in);
}

static void add_and_remove_at_random(uint64_t (*hash)(const void *), uint32_t count, uint32_t changes)
{
    struct thing *things = calloc(count, sizeof *things);
    struct hash_table table;
    uint64_t random = 1;
    hash_table_init(&table, hash);
    for (uint32_t i = 0; i < count; i++)
        things[i].key = i;
    for (uint32_t i = 0; i < changes; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        struct thing *thing = &things[(random >> 33) % count];
        if (thing->in)
            hash_table_remove(&table, thing);
        else
            hash_table_add(&table, thing);
        thing->in = !thing->in;
        if (i % (changes / 20) == 0)
            then_it_holds(&table, things, count);
    }
    then_it_holds(&table, things, count);
    hash_table_release(&table);
    free(things);
}

static void what_was_added_is_found_until_it_is_removed(void **state)
{
    (void)state;
    add_and_remove_at_random(thing_hash, 3000, 30000);
    add_and_remove_at_random(poor_hash, 200, 4000);
}

static void no_single_change_moves_many_things(void **state)
{
    (void)state;
    struct thing *things = calloc(THINGS, sizeof *things);
    struct hash_table table;
    hash_table_init(&table, thing_hash);
    for (uint32_t i = 0; i < THINGS; i++) {
        things[i] = (struct thing){i, true};
        hashed = 0;
        hash_table_add(&table, &things[i]);
        assert_in_range(hashed, 1, 17);
    }
    then_it_holds(&table, things, THINGS);
    hash_table_release(&table);
    free(things);
}

static void the_secret_decides_where_things_lie(void **state)
{
    (void)state;
    uint64_t before = hash_bytes(bytes_text("client")), both = hash_both(1, bytes_text("client"));
    hash_set_secret(UINT64_C(0x1234567890abcdef));
    assert_true(hash_bytes(bytes_text("client")) != before);
    assert_true(hash_both(1, bytes_text("client")) != both);
    add_and_remove_at_random(thing_hash, 3000, 30000);
    hash_set_secret(0);
    assert_true(hash_bytes(bytes_text("client")) == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_found_until_it_is_removed),
        cmocka_unit_test(no_single_change_moves_many_things),
        cmocka_unit_test(the_secret_decides_where_things_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
