/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of --config. rte_cfgfile reads it, but passes over much in silence: it shortens names
 * and values, ignores lines without "=" and what follows "]", cuts a value at a "#", and reads a
 * directory as an empty file. So each line is checked before it gets there, in a copy:
 * nobody can change that between the check and the reading.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_cfgfile.h>
#include <rte_common.h>

#include "cli/port_keys.h"
#include "cli/ports_file.h"

/* PORT_MAX sections with all keys at their longest, and as much in comments. */
#define FILE_SIZE_MAX (8 << 20)

/* Lists have ";", rte_cfgfile's own character for comments. */
#define COMMENT '#'

/* In UTF-8. */
#define BYTE_ORDER_MARK "\357\273\277"

/* Of a line that is not accepted, what an error line repeats. */
#define QUOTED_MAX 64

/* The line that is being checked. */
struct scan {
	const char *file;
	unsigned int line;
	unsigned int copied; /* lines that are sections or entries */
	bool in_section;
	FILE *copy;
	struct error_line *error;
};

/* Of the title of a section [port NAME]; any blanks follow. */
#define PORT_TITLE "port"

static int
cannot_read(const char *file, int err, struct error_line *error)
{
	return error_set(error, -err, "--config %.200s cannot be read: %s", file, strerror(err));
}

static char *
strip(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return text;
}

/*
 * rte_cfgfile takes any "#" for the begin of a comment, unless it follows a "\". Here it must be
 * clear that it is one, and there is none in a value: --port can have it.
 */
static int
cut_comment(struct scan *s, char *line)
{
	char *c = strchr(line, COMMENT);

	if (c == NULL)
		return 0;
	if (c > line && !isspace((unsigned char)c[-1]))
		return error_set(s->error, -EINVAL, "%.200s:%u: '%.*s' has a '#' in a word: a "
			"comment must begin the line or follow a blank", s->file, s->line,
			QUOTED_MAX, line);
	*c = '\0';
	return 0;
}

static int
copy_title(struct scan *s, const char *line)
{
	const char *end = strchr(line, ']');

	if (end == NULL || end[1] != '\0')
		return error_set(s->error, -EINVAL, "%.200s:%u: '%.*s' is not a section: it must "
			"be [port NAME] or [switch]", s->file, s->line, QUOTED_MAX, line);
	if (end - line - 1 >= CFG_NAME_LEN)
		return error_set(s->error, -EINVAL, "%.200s:%u: the section has a title of %zu "
			"characters: it must have at most %u", s->file, s->line,
			(size_t)(end - line - 1), CFG_NAME_LEN - 1);
	s->in_section = true;
	fprintf(s->copy, "%s\n", line);
	return 0;
}

/* Without the blanks around its "=", for which there may be no room in the lines of rte_cfgfile. */
static int
copy_entry(struct scan *s, const char *line)
{
	const char *equals = strchr(line, '='), *value;
	size_t len;

	if (equals == NULL || equals == line)
		return error_set(s->error, -EINVAL, "%.200s:%u: '%.*s' is not KEY = VALUE: a line "
			"must be that, a section or a comment with #", s->file, s->line,
			QUOTED_MAX, line);
	if (!s->in_section)
		return error_set(s->error, -EINVAL, "%.200s:%u: '%.*s' is before the first "
			"section: it must follow [port NAME] or [switch]", s->file, s->line,
			QUOTED_MAX, line);
	for (len = equals - line; len > 0 && isspace((unsigned char)line[len - 1]); len--)
		;
	if (len >= CFG_NAME_LEN)
		return error_set(s->error, -EINVAL, "%.200s:%u: the key has %zu characters: it "
			"must have at most %u", s->file, s->line, len, CFG_NAME_LEN - 1);
	for (value = equals + 1; isspace((unsigned char)*value); value++)
		;
	if (strlen(value) >= CFG_VALUE_LEN)
		return error_set(s->error, -EINVAL, "%.200s:%u: %.*s has a value of %zu "
			"characters: in a file it must have at most %u", s->file, s->line, (int)len,
			line, strlen(value), CFG_VALUE_LEN - 1);
	fprintf(s->copy, "%.*s=%s\n", (int)len, line, value);
	return 0;
}

/* Check a file's text line by line, and write what is not a comment to the copy. */
static int
scan(struct scan *s, char *text)
{
	char *line;
	int ret;

	while ((line = strsep(&text, "\n")) != NULL) {
		s->line++;
		ret = cut_comment(s, line);
		if (ret < 0)
			return ret;
		line = strip(line);
		if (line[0] == '\0')
			continue;
		ret = line[0] == '[' ? copy_title(s, line) : copy_entry(s, line);
		if (ret < 0)
			return ret;
		s->copied++;
	}
	return fflush(s->copy) != 0 || ferror(s->copy) ? cannot_read(s->file, ENOMEM, s->error) : 0;
}

/* All that a descriptor has, for free(). */
static char *
read_all(const char *file, int fd, struct error_line *error)
{
	char *text = malloc(FILE_SIZE_MAX + 1);
	size_t len = 0;
	ssize_t n = 1;

	if (text == NULL) {
		cannot_read(file, ENOMEM, error);
		return NULL;
	}
	while (n > 0 && len < FILE_SIZE_MAX) {
		n = read(fd, text + len, FILE_SIZE_MAX - len);
		len += RTE_MAX(n, 0);
	}
	text[len] = '\0';
	if (n < 0)
		cannot_read(file, errno, error);
	else if (len == FILE_SIZE_MAX)
		error_set(error, -EFBIG, "--config %.200s is too large: it must have less than %d "
			"bytes", file, FILE_SIZE_MAX);
	else if (strlen(text) != len)
		error_set(error, -EINVAL, "--config %.200s has a zero byte: it must be text", file);
	else if (strncmp(text, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0)
		error_set(error, -EINVAL, "--config %.200s begins with a byte order mark, which "
			"editors do not show: it must be text without one", file);
	else
		return text;
	free(text);
	return NULL;
}

/* Opening does not wait, should it be a FIFO. */
static char *
read_text(const char *file, struct error_line *error)
{
	int fd = open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char *text = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		cannot_read(file, errno, error);
	else if (!S_ISREG(st.st_mode))
		error_set(error, -EINVAL, "--config %.200s is not a regular file: it must be one",
			file);
	else
		text = read_all(file, fd, error);
	if (fd >= 0)
		close(fd);
	return text;
}

/* Sections and entries that rte_cfgfile has. Without memory it leaves some out. */
static unsigned int
count(struct rte_cfgfile *loaded)
{
	int i, sections = rte_cfgfile_num_sections(loaded, NULL, 0);
	unsigned int n = sections;
	char title[CFG_NAME_LEN];

	for (i = 0; i < sections; i++)
		n += rte_cfgfile_section_num_entries_by_index(loaded, title, i);
	return n;
}

static struct rte_cfgfile *
load_copy(const struct scan *s, int fd)
{
	const struct rte_cfgfile_parameters params = { .comment_character = COMMENT };
	struct rte_cfgfile *loaded;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	errno = 0;
	loaded = rte_cfgfile_load_with_params(path, CFG_FLAG_EMPTY_VALUES, &params);
	if (loaded != NULL && count(loaded) == s->copied)
		return loaded;
	cannot_read(s->file, errno != 0 ? errno : EIO, s->error);
	if (loaded != NULL)
		rte_cfgfile_close(loaded);
	return NULL;
}

/* The file as rte_cfgfile has it, for rte_cfgfile_close(). */
static struct rte_cfgfile *
load(const char *file, struct error_line *error)
{
	struct scan s = { .file = file, .error = error };
	char *text = read_text(file, error);
	struct rte_cfgfile *loaded = NULL;
	int fd = -1;

	if (text != NULL) {
		fd = memfd_create("ports", MFD_CLOEXEC);
		s.copy = fd >= 0 ? fdopen(fd, "w") : NULL;
		if (s.copy == NULL)
			cannot_read(file, errno, error);
	}
	if (s.copy != NULL && scan(&s, text) == 0)
		loaded = load_copy(&s, fd);
	if (s.copy != NULL)
		fclose(s.copy);
	else if (fd >= 0)
		close(fd);
	free(text);
	return loaded;
}

/* The name in the title of a port's section, NULL: it is another section. */
static const char *
title_name(const char *title)
{
	size_t len = strlen(PORT_TITLE);

	if (strncmp(title, PORT_TITLE, len) != 0)
		return NULL;
	if (title[len] == '\0')
		return title + len;
	if (!isspace((unsigned char)title[len]))
		return NULL;
	while (isspace((unsigned char)title[len]))
		len++;
	return title + len;
}

static int
begin_port(struct ports_config *ports, struct key_place *place, const char *name)
{
	int ret;

	if (ports->n == PORT_MAX)
		return error_set(place->error, -ENOSPC, "%s: it is one port too many: there can be "
			"at most %u, those of --port included", place->where, PORT_MAX);
	place->settings = &ports->port[ports->n];
	port_keys_preset(place);
	ports->port[ports->n].from_file = true;
	ret = port_keys_set(place, "name", name);
	place->is_section = true;
	return ret;
}

static int
read_section(struct ports_config *ports, struct rte_cfgfile *loaded, int index,
	bool *had_switch, struct error_line *error)
{
	char title[CFG_NAME_LEN], where[256 + CFG_NAME_LEN];
	int i, n = rte_cfgfile_section_num_entries_by_index(loaded, title, index), ret = 0;
	struct key_place place = { .where = where, .settings = ports, .error = error };
	struct rte_cfgfile_entry *entry;
	const char *name = title_name(title);

	snprintf(where, sizeof(where), "%.200s: [%s]", ports->file, title);
	place.is_switch = strcmp(title, "switch") == 0;
	if (place.is_switch && *had_switch)
		return error_set(error, -EEXIST, "%s: the section is there twice: it must be "
			"unique", where);
	*had_switch |= place.is_switch;
	if (name == NULL && !place.is_switch)
		return error_set(error, -EINVAL, "%s: unknown section: it must be [port NAME] or "
			"[switch]", where);
	if (name != NULL)
		ret = begin_port(ports, &place, name);
	if (ret < 0)
		return ret;
	entry = calloc(RTE_MAX(n, 1), sizeof(*entry));
	if (entry == NULL)
		return cannot_read(ports->file, ENOMEM, error);
	rte_cfgfile_section_entries_by_index(loaded, index, title, entry, n);
	for (i = 0; i < n && ret == 0; i++)
		ret = port_keys_set(&place, entry[i].name, entry[i].value);
	free(entry);
	if (ret == 0)
		ret = port_keys_complete(&place);
	ports->n += ret == 0 && name != NULL;
	return ret;
}

int
ports_file_read(struct ports_config *ports, struct error_line *error)
{
	struct rte_cfgfile *loaded = load(ports->file, error);
	bool had_switch = false;
	int i, ret = 0;

	if (loaded == NULL)
		return -EINVAL;
	for (i = 0; i < rte_cfgfile_num_sections(loaded, NULL, 0) && ret == 0; i++)
		ret = read_section(ports, loaded, i, &had_switch, error);
	rte_cfgfile_close(loaded);
	return ret;
}
