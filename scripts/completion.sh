# SPDX-License-Identifier: MIT
# Completion of make in this tree: targets, symbols, CONFIG=, RUN=. For bash and zsh:
#
#   source scripts/completion.sh
#
# In a directory that is not this tree make is completed as before.

if [ -n "${ZSH_VERSION:-}" ]; then
	autoload -Uz bashcompinit compinit
	whence compdef >/dev/null || compinit
	bashcompinit
fi

# zsh knows no compopt: no blank after any word there, rather than one after SYMBOL=.
_adamwprune_blanks=${ZSH_VERSION:+-o nospace}

_adamwprune_words() {
	case $1 in
	targets)
		sed -nE 's/^([a-z][a-z-]*):.*##.*/\1/p; s/^##> ([a-z][a-z-]*) .*/\1/p' Makefile
		ls defconfigs | sed 's/^/defconfig-/'
		;;
	symbols) # those with a prompt, and the families
		find Kconfig lib/adamwprune -name 'Kconfig*' -exec awk '
			/^config / { name = $2 }
			/^config CELL_/ { sub(/^CELL_/, "", name); family = name; next }
			/^\t(bool|int|string) "/ && name !~ /^CELL_/ { print name }
			/^\tdefault "/ && family != "" { print family; family = "" }
		' {} + | sort -u
		printf '%s\n' CONFIG RUN O M V FORMAT KCONFIG_CONFIG PUBLISHED KEEP_STALE
		;;
	CONFIG) ls defconfigs ;;
	RUN) ls results 2>/dev/null | grep -E -- '-[0-9a-f]{10}$' ;;
	esac
}

_adamwprune() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} name=
	if [ ! -f Makefile ] || [ ! -f lib/adamwprune/Kconfig ]; then
		declare -F _make >/dev/null && _make "$@"
		return
	fi
	# bash takes = for a word of its own, zsh does not.
	case $word in
	=) name=$before word= ;;
	*=*) name=${word%%=*} word=${word#*=} ;;
	*) [ "$before" = "=" ] && name=${COMP_WORDS[COMP_CWORD - 2]} ;;
	esac
	local prefix=
	[ -n "${ZSH_VERSION:-}" ] && [ -n "$name" ] && prefix="$name="
	case $name in
	CONFIG | RUN)
		COMPREPLY=($(compgen -P "$prefix" -W "$(_adamwprune_words "$name")" -- "$word"))
		;;
	'')
		if [[ $word == [A-Z]* ]]; then
			COMPREPLY=($(compgen -S = -W "$(_adamwprune_words symbols)" -- "$word"))
			type compopt >/dev/null 2>&1 && compopt -o nospace 2>/dev/null
		else
			COMPREPLY=($(compgen -W "$(_adamwprune_words targets)" -- "$word"))
		fi
		;;
	esac
}

eval "complete -o default $_adamwprune_blanks -F _adamwprune make"
unset _adamwprune_blanks
