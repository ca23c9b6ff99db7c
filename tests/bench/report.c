/* report.c — see report.h. */
#include "report.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static struct figure *add(struct report *report, const char *key, const char *label)
{
    assert(report->count < FIGURES_MAX);
    struct figure *figure = &report->figures[report->count++];
    *figure = (struct figure){.label = label, .unit = ""};
    snprintf(figure->key, sizeof(figure->key), "%s", key);
    return figure;
}

void report_number(struct report *report, const char *key, const char *label, double value, int decimals,
                   const char *unit)
{
    struct figure *figure = add(report, key, label);
    figure->value = isfinite(value) ? value : 0;
    figure->decimals = decimals;
    figure->unit = unit;
}

void report_text(struct report *report, const char *key, const char *label, const char *text)
{
    snprintf(add(report, key, label)->text, sizeof(report->figures[0].text), "%s", text);
}

void report_latency(struct report *report, const char *key, const char *label, const struct histogram *histogram)
{
    static const struct {
        const char *name, *title;
        double percent;
    } rows[] = {
        {"p50", "p50", 50}, {"p90", "p90", 90}, {"p99", "p99", 99}, {"p999", "p99.9", 99.9}, {"max", "max", 100}};
    char name[48], text[160];
    int used = 0;
    if (histogram->count == 0)
        return;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double us = (double)histogram_percentile(histogram, rows[i].percent) / 1e3;
        snprintf(name, sizeof(name), "%s_%s_us", key, rows[i].name);
        report_number(report, name, NULL, us, 1, "us");
        used += snprintf(text + used, sizeof(text) - (size_t)used, "%s%s %.*f ms", i > 0 ? ", " : "", rows[i].title,
                         us < 10000 ? 3 : 1, us / 1e3);
    }
    snprintf(name, sizeof(name), "%s_mean_us", key);
    report_number(report, name, NULL, (double)histogram->sum / (double)histogram->count / 1e3, 1, "us");
    snprintf(name, sizeof(name), "%s_text", key);
    report_text(report, name, label, text);
}

static void print_json_text(const char *text)
{
    putchar('"');
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            printf("\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            printf("\\u%04x", (unsigned)(unsigned char)*c);
        else
            putchar(*c);
    }
    putchar('"');
}

void report_print(const struct report *report, bool json)
{
    if (json)
        putchar('{');
    for (unsigned i = 0; i < report->count; i++) {
        const struct figure *figure = &report->figures[i];
        if (json) {
            printf("%s\"%s\": ", i > 0 ? ", " : "", figure->key);
            if (figure->text[0] != '\0')
                print_json_text(figure->text);
            else
                printf("%.*f", figure->decimals, figure->value);
        } else if (figure->label != NULL && figure->text[0] != '\0') {
            printf("  %-28s %s\n", figure->label, figure->text);
        } else if (figure->label != NULL) {
            printf("  %-28s %.*f%s%s\n", figure->label, figure->decimals, figure->value,
                   figure->unit[0] != '\0' ? " " : "", figure->unit);
        }
    }
    if (json)
        puts("}");
}
