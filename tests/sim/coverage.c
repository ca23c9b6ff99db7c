#include "coverage.h"

#include <stdlib.h>
#include <sys/mman.h>

static const char *const phase_names[PHASES_MET] = {
    [PHASE_IDLE] = "idle",
    [PHASE_CONNECTING] = "connecting",
    [PHASE_SUBSCRIBING] = "subscribing",
    [PHASE_PUBLISH_1] = "publish-1",
    [PHASE_PUBLISH_2] = "publish-2",
    [PHASE_RELEASE] = "release",
    [PHASE_RECEIVED_2] = "received-2",
    [PHASE_WILL] = "will",
    [PHASE_ELECTION] = "election",
    [PHASE_REPLAY] = "replay",
    [PHASE_UNFLUSHED] = "unflushed",
    [PHASE_SNAPSHOT] = "snapshot",
    [PHASE_SENDING] = "sending",
    [PHASE_RECEIVING] = "receiving",
    [PHASE_INSTALLING] = "installing",
    [PHASE_REPLACEMENT] = "replacement",
    [PHASE_DAMAGED] = "damaged",
    [PHASE_BEFORE_FRAME] = "before-frame",
    [PHASE_BEFORE_WRITE] = "before-write",
    [PHASE_BEFORE_SUBMIT] = "before-submit",
};

struct coverage *coverage_new(void)
{
    void *shared = mmap(NULL, sizeof(struct coverage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("coverage");
        exit(2);
    }
    return shared;
}

static void count(uint64_t *number)
{
    __atomic_fetch_add(number, 1, __ATOMIC_RELAXED);
}

void coverage_met(struct coverage *coverage, enum fault fault, unsigned phases)
{
    count(&coverage->struck[fault]);
    if (phases == 0)
        phases = 1u << PHASE_IDLE;
    for (int phase = 0; phase < PHASES_MET; phase++)
        if ((phases & (1u << phase)) != 0)
            count(&coverage->met[fault][phase]);
}

/* Only the death in the middle of a step knows which output it came before. */
static int can_meet(int fault, int phase)
{
    return phase < PHASE_BEFORE_FRAME || fault == FAULT_KILL_MID_STEP;
}

void coverage_print(const struct coverage *coverage, FILE *out)
{
    fprintf(out, "# faults by phase of the protocol:\n# %-18s %8s", "", "struck");
    for (int phase = 0; phase < PHASES_MET; phase++)
        fprintf(out, " %13s", phase_names[phase]);
    for (int fault = 0; fault < FAULT_KINDS; fault++) {
        fprintf(out, "\n# %-18s %8llu", fault_name(fault), (unsigned long long)coverage->struck[fault]);
        for (int phase = 0; phase < PHASES_MET; phase++)
            fprintf(out, " %13llu", (unsigned long long)coverage->met[fault][phase]);
    }
    fprintf(out, "\n# never met:");
    int never = 0;
    for (int fault = 0; fault < FAULT_KINDS; fault++)
        for (int phase = 0; phase < PHASES_MET; phase++)
            if (coverage->met[fault][phase] == 0 && can_meet(fault, phase) && ++never > 0)
                fprintf(out, " %s×%s", fault_name(fault), phase_names[phase]);
    fprintf(out, "%s\n", never > 0 ? "" : " nothing");
}
