/* SPDX-License-Identifier: BSD-3-Clause */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log/limit.h"
#include "log/sink.h"
#include "unit.h"

#define S 1000000000ull

static struct text_queue queue;

static void
test_a_queue_gives_back_what_was_put(void **state)
{
	char in[3000], out[TEXT_MAX];
	unsigned int i, got = 0;
	struct text t;

	(void)state;
	/* Lengths that have no common factor with the queue's, several times around it. */
	for (i = 0; i < 1000; i++) {
		memset(in, (int)('a' + i % 26), sizeof(in));
		t = (struct text){ .when = i, .len = i % 2999 + 1, .kind = TEXT_LINE };
		assert_true(text_queue_put(&queue, &t, in));
		while (text_queue_used(&queue) > TEXT_QUEUE_BYTES / 2 || (i == 999 && got < 1000)) {
			assert_true(text_queue_get(&queue, &t, out));
			assert_int_equal(t.when, got);
			assert_int_equal(t.len, got % 2999 + 1);
			assert_int_equal(out[0], 'a' + got % 26);
			assert_int_equal(out[t.len - 1], 'a' + got % 26);
			got++;
		}
	}
	assert_false(text_queue_get(&queue, &t, out));
	assert_int_equal(queue.n[TEXT_LINE], 0);
}

static void
test_a_full_queue_refuses_whole_texts(void **state)
{
	static char in[TEXT_MAX + 1], out[TEXT_MAX];
	struct text t = { .len = TEXT_MAX, .kind = TEXT_BLOCK };
	unsigned int n = 0;

	(void)state;
	while (text_queue_put(&queue, &t, in))
		n++;
	assert_int_equal(n, TEXT_QUEUE_BYTES / (TEXT_MAX + sizeof(t)));
	assert_int_equal(queue.n[TEXT_BLOCK], n);
	t.len = 1;
	assert_true(text_queue_put(&queue, &t, in));
	while (text_queue_get(&queue, &t, out))
		n--;
	assert_int_equal((int)n, -1);
	t.len = TEXT_MAX + 1;
	assert_false(text_queue_put(&queue, &t, in));
}

static void
test_a_limit_lets_a_burst_through_and_then_a_few(void **state)
{
	struct line_limit limit = { .burst = 10, .per_s = 4 };
	uint64_t now = 100 * S;
	unsigned int n = 0, i;

	(void)state;
	for (i = 0; i < 1000; i++)
		n += line_limit_take(&limit, now);
	assert_int_equal(n, 10);
	assert_int_equal(limit.suppressed, 990);
	for (i = 0; i < 1000; i++) /* a second of a flood */
		n += line_limit_take(&limit, now + (i + 1) * S / 1000);
	assert_int_equal(n, 14);
	/* A pause fills the bucket and no more. */
	for (i = 0; i < 1000; i++)
		n += line_limit_take(&limit, now + 1000 * S);
	assert_int_equal(n, 24);
	/* A clock that seems to go back harms nothing. */
	assert_false(line_limit_take(&limit, now));
}

static void
test_suppressed_lines_are_reported_when_lines_may_flow(void **state)
{
	struct line_limit limit = { .burst = 40, .per_s = 4 };
	uint64_t now = 5 * S;
	unsigned int reports = 0, i;

	(void)state;
	for (i = 0; i < 45; i++)
		line_limit_take(&limit, now);
	assert_int_equal(line_limit_report(&limit, now + S, false), 0);
	assert_int_equal(line_limit_report(&limit, now + 2 * S, false), 5);
	assert_int_equal(line_limit_report(&limit, now + 3 * S, false), 0);
	/* In a flood that does not end, every ten seconds. */
	for (i = 0; i < 3000; i++) {
		line_limit_take(&limit, now + 3 * S + i * S / 100);
		reports += line_limit_report(&limit, now + 3 * S + i * S / 100, false) > 0;
	}
	assert_in_range(reports, 2, 3);
	assert_true(line_limit_report(&limit, now + 33 * S, true) > 0);
}

/* A sink on a pipe that holds one page. */
static struct sink *
open_sink(int fds[2])
{
	struct sink *s = calloc(1, sizeof(*s));

	assert_int_equal(pipe(fds), 0);
	fcntl(fds[1], F_SETPIPE_SZ, 4096);
	s->fd = fds[1];
	assert_int_equal(sink_start(s, "test"), 0);
	return s;
}

static void
put_number(struct sink *s, unsigned int number)
{
	char line[101];
	struct text t = { .len = 100, .kind = TEXT_LINE, .level = 7 };

	snprintf(line, sizeof(line), "%099u\n", number);
	sink_put(s, &t, line);
}

/* What has come out of a sink. */
struct seen {
	unsigned int next; /* one more than the last number */
	unsigned int lines, lost;
};

/* Whole lines in order; where some are missing, another line says how many, sooner or later. */
static void
read_line(FILE *reader, struct seen *seen)
{
	unsigned int lost, number;
	char line[200];

	assert_non_null(fgets(line, sizeof(line), reader));
	if (sscanf(line, "CONFIG: %u log lines lost: nobody read them", &lost) == 1) {
		seen->lost += lost;
		return;
	}
	assert_int_equal(strlen(line), 100);
	number = (unsigned int)strtoul(line, NULL, 10);
	assert_true(number >= seen->next);
	seen->next = number + 1;
	seen->lines++;
}

static void
test_a_sink_loses_whole_lines_and_says_how_many(void **state)
{
	struct seen seen = { 0 };
	struct sink *s;
	unsigned int i;
	FILE *reader;
	int fds[2];

	(void)state;
	s = open_sink(fds);
	for (i = 0; i < 5000; i++)
		put_number(s, i); /* nobody reads: this must come to its end */
	assert_false(sink_drain(s));
	assert_true(s->count.lines_lost > 1000);
	reader = fdopen(fds[0], "r");
	while (text_queue_used(&s->queue) > 0)
		read_line(reader, &seen);
	put_number(s, 9999);
	while (seen.next != 10000)
		read_line(reader, &seen);
	assert_true(seen.lost > 1000);
	assert_int_equal(seen.lost + seen.lines - 1, 5000);
	assert_true(sink_drain(s));
}

static void
test_a_reader_that_has_gone_costs_lines_and_no_more(void **state)
{
	struct sink *s;
	char text[200];
	int fds[2];
	ssize_t n;

	(void)state;
	s = open_sink(fds);
	close(fds[0]);
	put_number(s, 1);
	assert_true(sink_drain(s));
	assert_int_equal(s->count.lines_lost, 1);
	/* Another one opens the pipe, as with a fifo. */
	snprintf(text, sizeof(text), "/proc/self/fd/%d", fds[1]);
	fds[0] = open(text, O_RDONLY);
	assert_true(fds[0] >= 0);
	put_number(s, 2);
	assert_true(sink_drain(s));
	put_number(s, 3);
	assert_true(sink_drain(s));
	n = read(fds[0], text, 100);
	assert_int_equal(n, 100);
	assert_int_equal(strtoul(text, NULL, 10), 2);
	n = read(fds[0], text, sizeof(text) - 1);
	text[n] = '\0';
	assert_non_null(strstr(text, "CONFIG: 1 log lines lost: Broken pipe\n"));
	assert_non_null(strstr(text, "003\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_queue_gives_back_what_was_put),
		cmocka_unit_test(test_a_full_queue_refuses_whole_texts),
		cmocka_unit_test(test_a_limit_lets_a_burst_through_and_then_a_few),
		cmocka_unit_test(test_suppressed_lines_are_reported_when_lines_may_flow),
		cmocka_unit_test(test_a_sink_loses_whole_lines_and_says_how_many),
		cmocka_unit_test(test_a_reader_that_has_gone_costs_lines_and_no_more),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
